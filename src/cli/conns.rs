//! `ravelin conns`: who is connected, what they are doing, and closing one.

use super::{
    exit,
    socket::{self, Fault, SocketArgs},
    terminal::{self, Paint, Screen, bytes, count, time, width},
};
use clap::{ColorChoice, Subcommand};
use hyper::Method;
use serde::Deserialize;
use std::{fmt::Write as _, io, process::ExitCode};

/// Columns of a column of foreign text at most.
const NAME_MAX: usize = 40;

/// Arguments of `ravelin conns`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  ravelin conns
  ravelin conns --json | jq 'select(.waits_us > 1000000)'
  ravelin conns close 1a2b3c4d-17
  ravelin conns close --gently 1a2b3c4d-17"
)]
pub(super) struct ConnsArgs {
    #[command(subcommand)]
    deed: Option<Deed>,

    /// Print a JSON object for each.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    socket: SocketArgs,
}

#[derive(Debug, Subcommand)]
enum Deed {
    /// Close a connection. Its record says that an operator did it, and who.
    Close {
        /// Its name, as it is listed and as records have it.
        #[arg(value_name = "ID")]
        id: String,

        /// Answer first what was promised, and let it go then.
        #[arg(long)]
        gently: bool,

        #[command(flatten)]
        socket: SocketArgs,
    },
}

/// One connection, as the socket tells it. What is new in it is left out here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Row {
    conn: Option<String>,
    service: String,
    src: String,
    identity: Option<String>,
    role: Option<String>,
    age_us: u64,
    doing: String,
    command: Option<String>,
    waits_us: Option<u64>,
    last_command: Option<String>,
    quiet_us: u64,
    db: u64,
    commands: u64,
    denied: u64,
    bytes_in: u64,
    bytes_out: u64,
    unanswered: u64,
    unread_bytes: u64,
    workers_silent: u64,
}

/// Lists or closes; 0 if it was done, 1 if not, 3 if the configuration cannot be read that names the socket.
pub(super) fn main(args: &ConnsArgs, color: ColorChoice) -> ExitCode {
    let done = match &args.deed {
        Some(Deed::Close { id, gently, socket }) => {
            let how = if *gently { "?gently" } else { "" };
            socket.page(Method::DELETE, &format!("/conns/{}{how}", socket::escaped(id))).map(|_| String::new())
        }
        None => args
            .socket
            .page(Method::GET, "/conns")
            .and_then(|text| if args.json { Ok(text) } else { table(&text, Screen::of(color, &io::stdout())) }),
    };
    match done {
        Ok(text) => terminal::printed(terminal::print(&text)),
        Err(fault) => socket::failed(&fault),
    }
}

/// The lines as a table for people.
fn table(text: &str, screen: Screen) -> Result<String, Fault> {
    let mut rows = Vec::new();
    for line in text.lines() {
        let row: Row = serde_json::from_str(line)
            .map_err(|error| (exit::FAILURE, format!("the process does not answer as this version does: {error}")))?;
        rows.push(row);
    }
    let silent: u64 = rows.iter().map(|row| row.workers_silent).sum();
    rows.retain(|row| row.workers_silent == 0);
    let heads =
        ["ID", "IDENTITY", "ROLE", "FROM", "SERVICE", "AGE", "DOING", "COMMANDS", "DENIED", "OPEN", "IN", "OUT"];
    let mut cells: Vec<[String; 12]> = vec![heads.map(str::to_owned)];
    let known = |text: Option<&str>| screen.cut(&screen.shown(text.unwrap_or("-")), NAME_MAX);
    for row in &rows {
        cells.push([
            known(row.conn.as_deref()),
            known(row.identity.as_deref()),
            known(row.role.as_deref()),
            known(Some(&row.src)),
            known(Some(&row.service)),
            time(row.age_us),
            screen.cut(&screen.shown(&doing(row)), NAME_MAX),
            count(row.commands),
            count(row.denied),
            count(row.unanswered),
            bytes(row.bytes_in),
            bytes(row.bytes_out),
        ]);
    }
    let mut widths = [0; 12];
    for row in &cells {
        for (most, cell) in widths.iter_mut().zip(row) {
            *most = width(cell).max(*most);
        }
    }
    let mut out = String::new();
    for (at, row) in cells.iter().enumerate() {
        let mut line = String::new();
        for (column, (cell, most)) in row.iter().zip(widths).enumerate() {
            // Numbers, but not how long and what.
            let cell = if column == 5 || column > 6 { screen.right(cell, most) } else { screen.left(cell, most) };
            let _ = write!(line, "{}{cell}", if column == 0 { "" } else { "  " });
        }
        let line = screen.cut(line.trim_end(), screen.width.unwrap_or(usize::MAX));
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{}", screen.paint(if at == 0 { Paint::Bold } else { Paint::Plain }, &line));
    }
    if rows.is_empty() {
        out = "nobody is connected\n".to_owned();
    }
    if silent > 0 {
        let text = format!("{silent} of the process' workers did not answer: their connections are not listed");
        let _ = writeln!(out, "{}", screen.paint(Paint::Bad, &text));
    }
    Ok(out)
}

/// What it is doing, in words.
fn doing(row: &Row) -> String {
    let mut out = match (row.doing.as_str(), &row.command, row.waits_us) {
        ("command", Some(command), Some(us)) => format!("{command} for {}", time(us)),
        ("idle", _, _) => match &row.last_command {
            Some(last) => format!("idle {} after {last}", time(row.quiet_us)),
            None => format!("idle {}", time(row.quiet_us)),
        },
        (doing @ ("transaction" | "subscribed"), _, _) => format!("{doing}, quiet {}", time(row.quiet_us)),
        (doing, ..) => doing.to_owned(),
    };
    if row.unread_bytes > 0 {
        let _ = write!(out, ", {} unread", bytes(row.unread_bytes));
    }
    if row.db > 0 {
        let _ = write!(out, ", db {}", row.db);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCREEN: Screen = Screen { colour: false, unicode: true, width: None };

    #[test]
    fn connections_stand_in_columns() {
        let lines = [
            r#"{"conn":"ab-1","service":"cache","src":"10.0.0.1:50000","identity":"cn:app","role":"app","age_us":61000000,"doing":"idle","last_command":"GET","quiet_us":1500,"commands":1200,"denied":0,"bytes_in":2048,"bytes_out":10,"unanswered":0,"of_the_future":7}"#,
            r#"{"conn":"ab-2","service":"cache","src":"10.0.0.2:50000","identity":"cn:\u001b[31mworker","role":"w","age_us":5000000,"doing":"command","command":"BLPOP","waits_us":4000000,"commands":3,"denied":1,"bytes_in":99,"bytes_out":10,"unanswered":1,"unread_bytes":4096,"db":2}"#,
            r#"{"conn":null,"service":"cache","src":"10.0.0.3:1","identity":null,"role":null,"age_us":1000,"doing":"handshake"}"#,
        ];
        assert_eq!(
            table(&lines.join("\n"), SCREEN).unwrap(),
            "ID    IDENTITY             ROLE  FROM            SERVICE   AGE  DOING                             COMMANDS  DENIED  OPEN     IN   OUT\n\
             ab-1  cn:app               app   10.0.0.1:50000  cache    1m1s  idle 1.5ms after GET                 1,200       0     0  2 KiB  10 B\n\
             ab-2  cn:\\u{1b}[31mworker  w     10.0.0.2:50000  cache      5s  BLPOP for 4s, 4 KiB unread, db 2         3       1     1   99 B  10 B\n\
             -     -                    -     10.0.0.3:1      cache     1ms  handshake                                0       0     0    0 B   0 B\n"
        );
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(table("", SCREEN).unwrap(), "nobody is connected\n");
        assert!(
            table("{\"workers_silent\":1}\n", SCREEN).unwrap().contains("1 of the process' workers did not answer")
        );
        assert!(table("not JSON", SCREEN).unwrap_err().1.contains("does not answer as this version does"));
    }
}
