//! Arguments, command, exit code: all of it is in [`ravelin::cli`].

fn main() -> std::process::ExitCode {
    ravelin::cli::main()
}
