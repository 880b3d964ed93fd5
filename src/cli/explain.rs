//! `ravelin explain`: who a client would be, and what would become of its commands.

mod input;
mod text;
mod who;

use self::{input::Line, who::Who};
use super::{ConfigArgs, coloured, complain, exit};
use crate::session::trial::{self, Fate};
use clap::ColorChoice;
use serde::Serialize;
use std::{
    io::{self, IsTerminal as _, Write as _},
    net::IpAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

/// Arguments of `ravelin explain`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  ravelin explain -c ravelin.toml --cert app.pem --from 10.0.0.7 -- CONFIG SET dir /tmp
  ravelin explain -c ravelin.toml --as app -- GET user:1
  ravelin explain -c ravelin.toml --as app --json < commands.txt

Each command is judged by the proxy's own session, alone, on a new connection and outside of a transaction. Nothing is
sent anywhere and no port is opened. Without a command on the line commands are read from standard input, one a line: words
with blanks between them, or a JSON array of strings (`[\"SET\",\"key\",\"two words\"]`); lines that are empty or begin with
`#` are skipped.

Exit codes: 0 all of them are allowed · 6 one is denied, or the client is not let in · 2 command line, or a line that is
no command · 3 configuration or certificates")]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,

    /// The client's certificate, PEM, the leaf first: verified as the proxy would, now.
    #[arg(long, value_name = "FILE", conflicts_with = "role", required_unless_present = "role")]
    cert: Option<PathBuf>,

    /// A client of this role, whatever its certificate.
    #[arg(long = "as", value_name = "ROLE")]
    role: Option<String>,

    /// The client's address. Without it admission is not asked.
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,

    /// The service, by name; needed where there are several.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// The database that is selected.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    db: u32,

    /// Print JSON for programs: one object a line.
    #[arg(long)]
    json: bool,

    /// The command and its arguments, behind `--`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// What is said of one command. Its JSON form is for programs: keys are added, not changed.
#[derive(Debug, Serialize)]
struct Answer {
    /// The words, as far as they are text.
    command: Vec<String>,
    /// `allow`, `answer` (the proxy answers it itself), `deny`, `protocol-error`.
    verdict: &'static str,
    /// The row of the catalog.
    #[serde(skip_serializing_if = "Option::is_none")]
    known_as: Option<&'static str>,
    /// The rule that denies it.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    /// The rule in shadow mode that would deny it.
    #[serde(skip_serializing_if = "Option::is_none")]
    shadow: Option<String>,
    /// Why there is such a rule, for those of a preset.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<&'static str>,
    /// The key that the rule stands at.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// File, line and column of it, or the flag or variable.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    /// What the client is told in the place of Redis' answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<String>,
    service: String,
    role: String,
    identity: String,
}

impl Answer {
    /// Whether the client is refused it.
    fn refuses(&self) -> bool {
        matches!(self.verdict, "deny" | "protocol-error")
    }
}

/// Says what would become of the commands; 0 if all of them may be said.
pub(super) fn main(args: &ExplainArgs, color: ColorChoice) -> ExitCode {
    let settings = match args.config.source().load() {
        Ok(settings) => settings,
        Err(errors) => {
            complain(&errors);
            return ExitCode::from(exit::CONFIG);
        }
    };
    let asked = who::Asked { cert: args.cert.as_deref(), role: args.role.as_deref(), from: args.from };
    let who = match who::find(&settings, args.service.as_deref(), &asked) {
        Ok(who) => who,
        Err(trouble) => return refuse(&trouble, args.json),
    };
    let mut shown = Shown { json: args.json, colour: coloured(color, &io::stdout()), worst: 0 };
    let said = if args.command.is_empty() {
        shown.lines(&who, args.db)
    } else {
        let words: Vec<Vec<u8>> = args.command.iter().map(|word| word.clone().into_bytes()).collect();
        shown.one(&who, args.db, &words, |answer, colour| text::page(answer, &who, colour))
    };
    match said {
        Ok(()) => ExitCode::from(shown.worst),
        // `ravelin explain | head` is no failure.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(shown.worst),
        Err(error) => {
            complain(&format_args!("error: {error}"));
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn refuse(trouble: &who::Trouble, json: bool) -> ExitCode {
    let code = match trouble {
        who::Trouble::Asked(_) => 2,
        who::Trouble::File(_) => exit::CONFIG,
        who::Trouble::Refused { reason, .. } => {
            if json {
                let line = serde_json::json!({ "verdict": "refused", "reason": reason, "detail": trouble.to_string() });
                let _ = writeln!(io::stdout().lock(), "{line}");
            }
            exit::DENIED
        }
    };
    if !json || code != exit::DENIED {
        complain(&format_args!("error: {trouble}"));
    }
    ExitCode::from(code)
}

/// What has been printed, and what the exit code will be.
struct Shown {
    json: bool,
    colour: bool,
    worst: u8,
}

impl Shown {
    /// One command, as JSON or as `text` has it for people.
    fn one(
        &mut self,
        who: &Who<'_>,
        db: u32,
        words: &[Vec<u8>],
        text: impl FnOnce(&Answer, bool) -> String,
    ) -> io::Result<()> {
        let answer = answer(who, db, words);
        if answer.refuses() {
            self.worst = self.worst.max(exit::DENIED);
        }
        let shown = if self.json { serde_json::to_string(&answer)? + "\n" } else { text(&answer, self.colour) };
        let mut out = io::stdout().lock();
        out.write_all(shown.as_bytes())?;
        out.flush()
    }

    /// A table of one line for each line of standard input.
    fn lines(&mut self, who: &Who<'_>, db: u32) -> io::Result<()> {
        let input = io::stdin().lock();
        if input.is_terminal() && !self.json {
            complain(&"one command a line; end with Ctrl-D");
        }
        for line in input::lines(input) {
            match line? {
                Line::Command(words) => self.one(who, db, &words, text::row)?,
                Line::Bad { number, why } => {
                    self.worst = self.worst.max(2);
                    complain(&format_args!("error: line {number}: {why}"));
                }
            }
        }
        Ok(())
    }
}

fn answer(who: &Who<'_>, db: u32, words: &[Vec<u8>]) -> Answer {
    let borrowed: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let ruling = trial::judge(&who.config, &who.peer, db, &borrowed);
    let rule = ruling.rule.map(|rule| who.peer.policy().rule_name(rule).to_owned());
    let why = rule.as_deref().and_then(crate::policy::presets::reason);
    let place = rule.as_deref().and_then(|rule| who.places.place_of(&who.peer.role().name, rule));
    let (rule, shadow) = if ruling.fate == Fate::Denied { (rule, None) } else { (None, rule) };
    Answer {
        command: words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        verdict: match ruling.fate {
            Fate::Forwarded => "allow",
            Fate::Answered => "answer",
            Fate::Denied => "deny",
            Fate::NotARequest => "protocol-error",
        },
        known_as: ruling.command,
        why,
        rule,
        shadow,
        key: place.map(|place| place.key.clone()),
        place: place.map(|place| place.place.clone()),
        reply: ruling.reply,
        service: who.peer.service().to_string(),
        role: who.peer.role().name.clone(),
        identity: who.identity.clone(),
    }
}

/// Shared by the parts: what a session of that listener is told.
type Config = Arc<trial::SessionConfig>;
