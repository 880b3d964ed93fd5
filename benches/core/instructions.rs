//! Instructions per command, counted by valgrind: no noise, so a change of one percent is a change.

use crate::{
    cases::Case,
    report::{Progress, Table},
};
use std::process::{Command, Stdio};

/// A case is run twice, with so many commands and with so many more: start-up is the same in both and falls out.
const FEW: u64 = 1_600;
const MORE: u64 = 4_800;

pub fn table(cases: &[Case]) {
    let progress = Progress::new();
    let mut table = Table::with_remark(&["instructions per command", "count", "question"]);
    for (at, case) in cases.iter().enumerate() {
        progress.say(&format!("case {} of {}: {}", at + 1, cases.len(), case.name));
        // A pass of several commands is done whole, so the numbers of commands are made multiples of it.
        let [few, more] = [FEW, MORE].map(|commands| commands.div_ceil(case.commands) * case.commands);
        let count = (run(case.name, more) - run(case.name, few)) as f64 / (more - few) as f64;
        table.row(vec![case.name.to_owned(), format!("{count:.0}"), case.question.to_owned()]);
    }
    progress.done();
    table.print();
}

fn run(name: &str, commands: u64) -> u64 {
    let myself = std::env::current_exe().expect("a path to this program");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(myself)
        .args([name, "--once", &commands.to_string()])
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("valgrind cannot be started ({error}); install it (apt-get install valgrind)"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "valgrind failed ({}):\n{text}", output.status);
    let count = text.lines().find_map(|line| line.split_once("Collected : ")).map(|(_, count)| count.trim().parse());
    count.and_then(Result::ok).unwrap_or_else(|| panic!("valgrind's output names no count:\n{text}"))
}
