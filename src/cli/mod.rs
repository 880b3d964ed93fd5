//! The command line: one file per subcommand. The only place that reads arguments and environment.

mod audit;
mod bans;
pub mod certs;
mod check;
mod client;
mod conns;
mod explain;
mod probe;
mod reload;
mod run;
mod schema;
mod scripts;
mod socket;
mod terminal;

use crate::config::{Override, Source, settings::LogFormat};
use clap::{Args, ColorChoice, CommandFactory as _, Parser, Subcommand, ValueEnum as _, error::ErrorKind};
use std::{
    ffi::OsString,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

/// Exit codes. 0 is success, 2 is clap's own, for a command line that cannot be understood.
pub mod exit {
    /// Something failed while running.
    pub const FAILURE: u8 = 1;
    /// The configuration, or a file it names, cannot be used.
    pub const CONFIG: u8 = 3;
    /// `audit verify`: the stream is not what was written, or nothing proves that it is.
    pub const UNPROVEN: u8 = 5;
    /// `explain`: a command is denied, or the client would not be let in.
    pub const DENIED: u8 = 6;
}

/// A mutual-TLS proxy in front of a Redis that cannot defend itself.
///
/// Clients come with a certificate; who they are decides what they may say; Redis' password is never theirs; every
/// command is written down.
#[derive(Debug, Parser)]
#[command(
    name = "ravelin",
    version,
    long_version = concat!(
        env!("CARGO_PKG_VERSION"),
        "\nTLS: rustls with aws-lc-rs (TLS 1.3 and 1.2, X25519MLKEM768 preferred)",
        "\ncommand catalog: Redis up to 8.6, Valkey up to 9.1"
    ),
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done · 1 failed while running · 2 command line · 3 configuration or certificates · 5 not proven (audit verify) · 6 denied (explain)",
    after_long_help = "\
To begin with:
  ravelin certs --dir pki --server localhost,127.0.0.1 --client app
  ravelin check -c ravelin.toml           what the configuration means
  ravelin run -c ravelin.toml             the proxy, in the foreground
  ravelin explain -c ravelin.toml --as app -- FLUSHALL    whether it may, and why not
  ravelin check --reference               every key of the configuration

While it runs:
  ravelin audit tail -f /var/log/ravelin/audit.jsonl     who runs what; `audit stats` sums it up
  ravelin conns -c ravelin.toml                          who is connected, doing what
  ravelin reload -c ravelin.toml                         read everything anew (so does SIGHUP): all of it, or none
  SIGTERM   answer what was promised, close, exit 0

Every key of the file can be overridden: by --set limits.max_connections=500, or by an environment
variable such as RAVELIN_LIMITS__MAX_CONNECTIONS=500 (two underscores for each dot).

Exit codes: 0 done · 1 failed while running · 2 command line · 3 configuration or certificates · 5 not proven (audit verify) · 6 denied (explain)"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Colours in what is printed for people; `auto` is on a terminal and without NO_COLOR.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: ColorChoice,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy, in the foreground.
    #[command(visible_alias = "serve")]
    Run(ConfigArgs),
    /// Run the near end of a tunnel, in the foreground: plain text in from this host, mutual TLS out.
    Client(client::ClientArgs),
    /// Say what a configuration means, or what is wrong with it.
    ///
    /// Reads the configuration, the password files and the TLS files as `run` does, looks whether Redis is there, and
    /// prints what came of it. Nothing is changed and no port is opened. Exits 0 if `run` could start, 3 if not.
    #[command(visible_alias = "validate")]
    Check(check::CheckArgs),
    /// Say what would become of a command, and by which rule.
    Explain(explain::ExplainArgs),
    /// Read the audit stream: follow it, sum it up, prove it.
    Audit(audit::AuditArgs),
    /// List who is connected to the running proxy and what they are doing; close one.
    Conns(conns::ConnsArgs),
    /// Have the running proxy read its configuration and files anew, and say what is different.
    Reload(reload::ReloadArgs),
    /// List and lift bans of the running proxy.
    Bans(bans::BansArgs),
    /// List the scripts that were run, and pin those that may be (`scripts = { pinned = "FILE" }`).
    Scripts(scripts::ScriptsArgs),
    /// Print the JSON schema of a format.
    Schema(schema::SchemaArgs),
    /// Make a CA, server and client certificates to begin with.
    Certs(certs::Args),
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The configuration file, TOML.
    #[arg(short, long, value_name = "FILE", env = "RAVELIN_CONFIG", default_value = "/etc/ravelin/ravelin.toml")]
    config: PathBuf,

    /// Override a key of the file: `--set limits.max_connections=500`. Elements of lists are named by position or by
    /// `name`: `service.0.…`, `service.cache.…`. May be repeated; the last one wins.
    #[arg(long, value_name = "KEY=VALUE", value_parser = Override::set)]
    set: Vec<Override>,

    /// How lines of the operational log look (overrides `log.format`).
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<LogFormat>,
}

impl ConfigArgs {
    /// The file with everything put over it: flags and the process' environment.
    pub(crate) fn source(&self) -> Source {
        self.source_with(std::env::vars_os())
    }

    fn source_with(&self, environment: impl Iterator<Item = (OsString, OsString)>) -> Source {
        let mut source = Source::file(&self.config);
        // A name or value that is not Unicode becomes one that is not valid, which is then reported as such.
        let environment = environment
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()));
        for (name, value) in environment {
            source.overrides.extend(Override::variable(&name, &value));
            source.warnings.extend(Override::near_miss(&name));
        }
        source.overrides.extend(self.set.iter().cloned());
        if let Some(format) = self.log_format.and_then(|format| format.to_possible_value()) {
            source.overrides.push(Override::flag("--log-format", "log.format", format.get_name()));
        }
        source
    }
}

/// Whether to colour what is printed to `stream`.
fn coloured(choice: ColorChoice, stream: &impl IsTerminal) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    }
}

/// Prints to standard error. Where that is gone there is nobody to tell.
pub(crate) fn complain(message: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{message}");
}

/// The whole program: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed to standard output and are no failure.
            let _ = error.print();
            let usage = !matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            return if usage { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Run(args) => run::main(&args.source()),
        Command::Client(args) => client::main(&args),
        Command::Check(args) => check::main(&args, cli.color),
        Command::Explain(args) => explain::main(&args, cli.color),
        Command::Audit(args) => audit::main(&args, cli.color),
        Command::Conns(args) => conns::main(&args, cli.color),
        Command::Reload(args) => reload::main(&args, cli.color),
        Command::Bans(args) => bans::main(&args, cli.color),
        Command::Scripts(args) => scripts::main(&args),
        Command::Schema(args) => schema::main(&args),
        Command::Certs(args) => certs::main(args),
    }
}

/// The command line as clap knows it, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::{Cli, Command, command};
    use clap::Parser as _;
    use std::ffi::OsString;

    fn config(arguments: &[&str]) -> super::ConfigArgs {
        let cli = Cli::try_parse_from([&["ravelin", "run"], arguments].concat()).unwrap();
        let Command::Run(args) = cli.command else { panic!("not run") };
        args
    }

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn flags_and_environment_reach_the_source() {
        let args = config(&["-c", "x.toml", "--set", "limits.backlog=5", "--log-format", "json"]);
        let environment =
            [("RAVELIN_LOG__LEVEL", "debug"), ("RAVELIN_PORT", "tcp://10.0.0.1"), ("RAVELIN_TLS_CERT", "x")];
        let source = args.source_with(environment.iter().map(|(n, v)| (OsString::from(n), OsString::from(v))));
        assert_eq!(source.file, std::path::Path::new("x.toml"));
        let shown = format!("{:?}", source.overrides);
        for key in ["limits.backlog", "log.format", "log.level"] {
            assert!(shown.contains(key), "{key} in {shown}");
        }
        assert_eq!(source.overrides.len(), 3, "{shown}");
        assert_eq!(source.warnings.len(), 1, "{:?}", source.warnings);
    }

    #[test]
    fn a_flag_that_is_no_key_and_value_is_a_fault_of_the_command_line() {
        for bad in ["limits.backlog", "=5"] {
            let error = Cli::try_parse_from(["ravelin", "run", "--set", bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn help_names_every_command_and_how_to_begin() {
        let help = command().render_long_help().to_string();
        for word in ["run", "check", "certs", "reload", "SIGHUP", "RAVELIN_LIMITS__MAX_CONNECTIONS", "Exit codes"] {
            assert!(help.contains(word), "{word} is missing in\n{help}");
        }
    }
}
