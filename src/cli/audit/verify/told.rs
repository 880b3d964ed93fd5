//! The verifier's report, for people and for programs.

use crate::audit::verify::{Anchor, Beyond, Finding, Note, Place, Report, Segment, Verdict};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What to configure where there is nothing to prove by.
const HOW: &str = "\
Write checkpoints into the stream from now on:
  [audit]
  checkpoint = { every = \"10s\", sign_key = \"/etc/ravelin/audit.ed25519\" }
";

/// Lines for people. Nothing in them is foreign text but words of checkpoints, which are plain ASCII.
pub(super) fn text(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = render(report, &mut out);
    out
}

fn render(report: &Report, out: &mut String) -> std::fmt::Result {
    for segment in &report.segments {
        segment_text(report, segment, out)?;
    }
    if report.segments_left_out > 0 {
        writeln!(out, "and {} further chains", report.segments_left_out)?;
    }
    signatures(report, out)?;
    for (anchor, found) in &report.anchors {
        match anchor {
            _ if !found => {}
            Anchor::Line(head, from) => {
                writeln!(out, "head     checkpoint {} of {}, from {from}, is here", head.n, head.ts)?;
            }
            Anchor::Digest(digest) => writeln!(out, "head     {digest} is here")?,
        }
    }
    for note in &report.notes {
        writeln!(out, "note     {}", note_text(report, note))?;
    }
    if let (Some(beyond), true) = (report.beyond, report.checkpoints > 0) {
        writeln!(out, "beyond   {}", beyond_text(beyond, report.torn.is_some()))?;
    }
    for Finding { kind, place, from, text, .. } in &report.findings {
        write!(out, "WRONG    {}: {}: {text}", report.name(*place), kind.word())?;
        match from {
            Some(from) => writeln!(out, "; what was before {} is not concerned", report.name(*from))?,
            None => writeln!(out)?,
        }
    }
    let more = report.findings_total.saturating_sub(report.findings.len() as u64);
    if more > 0 {
        writeln!(out, "WRONG    and {more} more")?;
    }
    match report.verdict() {
        Verdict::Proven => writeln!(out, "PROVEN"),
        Verdict::Broken => writeln!(out, "NOT PROVEN"),
        Verdict::NothingToProveBy => nothing(report, out),
    }
}

fn segment_text(report: &Report, segment: &Segment, out: &mut String) -> std::fmt::Result {
    let Segment { chain, output, first, last, proven, .. } = segment;
    writeln!(out, "chain    {chain} of output {output}: checkpoints {} to {}", first.1, last.1)?;
    match proven {
        Some(to) => {
            let (from, till) = (report.name(first.0), report.name(to.0));
            writeln!(out, "proven   {from} to {till}, written from {} to {}", first.2, to.2)
        }
        None => writeln!(out, "proven   nothing of it"),
    }
}

fn signatures(report: &Report, out: &mut String) -> std::fmt::Result {
    let Report { checkpoints, signed, verified, .. } = *report;
    if verified > 0 {
        writeln!(out, "signed   {verified} of {checkpoints} checkpoints, by the key given")
    } else if signed > 0 && report.findings_total == 0 {
        writeln!(
            out,
            "signed   {signed} of {checkpoints} checkpoints; without --key their signatures are not looked at"
        )
    } else {
        Ok(())
    }
}

fn note_text(report: &Report, note: &Note) -> String {
    let name = |place: &Place| report.name(*place);
    match note {
        Note::BeginsLater { place, n } => {
            format!("{}: the chain's checkpoints before {n} are not in these files", name(place))
        }
        Note::BeforeTheChain { place, bytes } => {
            format!("{}: {bytes} bytes stood here before the chain began; nothing proves them", name(place))
        }
        Note::Unproven { place, from, lines, torn } => format!(
            "{} to {}: {lines} lines had no checkpoint when the process was ended{}; they are proven since it started again",
            name(from),
            name(place),
            if *torn { ", the last of them torn" } else { "" }
        ),
        Note::Uncovered { place, from, lines } => {
            format!("{} to {}: {lines} lines that no checkpoint covers; nothing proves them", name(from), name(place))
        }
        Note::NewChain { place, stopped: true } => {
            format!(
                "{}: a new chain begins; the one before had ended. Nothing proves that no other was between",
                name(place)
            )
        }
        Note::NewChain { place, stopped: false } => {
            format!(
                "{}: a new chain begins; the one before was broken off, and what it wrote at last is not proven",
                name(place)
            )
        }
        Note::NewChainAfter { place, why } => {
            format!("{}: a new chain begins, which names the one before: {why}", name(place))
        }
    }
}

fn beyond_text(beyond: Beyond, torn: bool) -> String {
    let torn = if torn { ", the last of them torn or just being written" } else { "" };
    match beyond {
        Beyond { bytes: 0, stopped: true, .. } => "nothing: the process ended in order".to_owned(),
        Beyond { bytes: 0, .. } => "nothing yet: the process is running, was killed, or the end was cut off".to_owned(),
        Beyond { bytes, lines, .. } => {
            let what =
                format!("{lines} lines ({bytes} bytes{torn}) stand behind the last checkpoint and are not proven");
            format!("{what}: the process is running or was killed")
        }
    }
}

fn nothing(report: &Report, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{} lines, and no checkpoint among them: there is nothing to prove them by", report.lines)?;
    if let Some((place, text)) = &report.unreadable {
        writeln!(out, "hole     {} {text}", report.name(*place))?;
    }
    for (place, text) in &report.holes {
        writeln!(out, "hole     {}: {text}", report.name(*place))?;
    }
    if report.holes.is_empty() && report.unreadable.is_none() && report.lines > 0 {
        writeln!(out, "The numbers of the records have no holes, which anybody can bring about.")?;
    }
    out.write_str(HOW)?;
    writeln!(out, "NOT PROVEN")
}

/// The same for programs; `verdict` is `proven`, `broken` or `nothing`.
pub(super) fn json(report: &Report) -> String {
    let at = |place: &Place| json!({ "file": report.files.get(place.file), "line": place.line });
    let point = |(place, n, ts): &(Place, u64, String)| json!({ "at": at(place), "n": n, "ts": ts });
    let segments = report.segments.iter().map(|segment| {
        json!({
            "chain": segment.chain, "output": segment.output, "stopped": segment.stopped,
            "first": point(&segment.first), "last": point(&segment.last),
            "proven": segment.proven.as_ref().map(point),
        })
    });
    let findings = report.findings.iter().map(|finding| {
        json!({
            "kind": finding.kind.word(), "at": at(&finding.place), "from": finding.from.as_ref().map(at),
            "w": finding.seq.map(|(w, _)| w), "seq": finding.seq.map(|(_, seq)| seq), "text": finding.text,
        })
    });
    let holes = report.holes.iter().chain(&report.unreadable);
    let heads = report.anchors.iter().map(|(anchor, found)| match anchor {
        Anchor::Line(head, from) => json!({ "sha256": head.sha256, "n": head.n, "from": from, "found": found }),
        Anchor::Digest(digest) => json!({ "sha256": digest, "found": found }),
    });
    let beyond = report.beyond.unwrap_or_default();
    let value = json!({
        "verdict": match report.verdict() {
            Verdict::Proven => "proven",
            Verdict::Broken => "broken",
            Verdict::NothingToProveBy => "nothing",
        },
        "files": report.files, "bytes": report.bytes, "lines": report.lines, "checkpoints": report.checkpoints,
        "signed": report.signed, "signatures_verified": report.verified, "chains": segments.collect::<Vec<Value>>(),
        "findings": findings.collect::<Vec<Value>>(), "findings_total": report.findings_total,
        "notes": report.notes.iter().map(|note| note_text(report, note)).collect::<Vec<_>>(),
        "heads": heads.collect::<Vec<Value>>(),
        "holes": holes.map(|(place, text)| json!({ "at": at(place), "text": text })).collect::<Vec<Value>>(),
        "beyond": { "bytes": beyond.bytes, "lines": beyond.lines, "stopped": beyond.stopped, "torn": report.torn.is_some() },
    });
    format!("{value:#}\n")
}
