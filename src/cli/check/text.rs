//! The facts for people: one column of names, one of what they mean.

use super::facts::{Facts, RoleFacts, RuleFacts, ServiceFacts};
use std::fmt::Write as _;

/// Width of the column of names.
const NAMES: usize = 16;
/// Where lists of commands are wrapped.
const WIDTH: usize = 110;

/// The page. Writing to a string cannot fail, so what `write!` returns is dropped throughout.
pub(super) fn render(facts: &Facts, verbose: bool, colour: bool) -> String {
    let mut page = Page { out: String::new(), colour };
    page.heading(&facts.file);
    for service in &facts.services {
        service_lines(&mut page, service, verbose);
    }
    page.heading("limits and outputs");
    for (name, value) in &facts.process {
        page.line(name, value);
    }
    page.heading("when something fails");
    for (what, then) in &facts.failures {
        let _ = writeln!(page.out, "  {what}: {then}");
    }
    if !facts.warnings.is_empty() {
        page.heading("warnings");
        for warning in &facts.warnings {
            page.marked("warning", "33", warning);
        }
    }
    let _ = writeln!(page.out);
    for error in &facts.errors {
        page.marked("error", "31", error);
    }
    if facts.errors.is_empty() {
        page.marked("ok", "32", &format!("`ravelin run` can start with this{}", warned(facts.warnings.len())));
    }
    page.out
}

fn warned(warnings: usize) -> String {
    match warnings {
        0 => String::new(),
        1 => "; 1 warning".to_owned(),
        count => format!("; {count} warnings"),
    }
}

fn service_lines(page: &mut Page, service: &ServiceFacts, verbose: bool) {
    page.heading(&format!("service {}", service.name));
    page.list("listens on", &service.listen, "nothing");
    page.line("Redis", &service.upstream);
    page.line("", &service.upstream_guard);
    for alternative in &service.upstream_alternatives {
        page.line("", &format!("or, while those before are down, {alternative}"));
    }
    page.line("", &service.upstream_health);
    if let Some(now) = &service.upstream_now {
        page.line("", now);
    }
    page.line("authenticates", &service.credential);
    page.line("client's AUTH", service.client_auth);
    page.line("CLIENT LIST", if service.connection_name { "shows whose each connection is" } else { "shows no names" });
    if service.min_tls == "none" {
        page.line("TLS", service.certificates);
    } else {
        page.line("TLS", &format!("{} or later, client certificate {}", service.min_tls, service.certificates));
    }
    if let Some(tls) = &service.tls {
        for (name, value) in tls.lines() {
            page.line(name, &value);
        }
    }
    page.list("admits", &service.allow, "nobody");
    if !service.deny.is_empty() {
        page.list("but not", &service.deny, "");
    }
    let cap = service.max_connections_per_address.map_or("any number of".to_owned(), |most| format!("at most {most}"));
    page.line("", &format!("{cap} connections from one address"));
    page.list("nobody may say", &service.floor, "(nothing is denied to all)");
    if service.roles.is_empty() {
        page.line("roles", "none, so nobody is let in");
    }
    for role in &service.roles {
        role_lines(page, role, verbose);
    }
}

fn role_lines(page: &mut Page, role: &RoleFacts, verbose: bool) {
    let _ = writeln!(page.out);
    let priority = if role.priority == 0 { String::new() } else { format!(" (priority {})", role.priority) };
    page.line("role", &format!("{}{priority}", role.name));
    page.list("is for", &role.matches, "whom a password gives it, and nobody else");
    for (name, value) in &role.own {
        page.line(name, value);
    }
    page.line("may not say", &format!("{} of {} commands, and none that is unknown", role.denied, role.commands));
    rule_lines(page, &role.rules, verbose);
    for (at, line) in role.arguments.iter().enumerate() {
        page.line(if at == 0 { "and" } else { "" }, line);
    }
    if !role.shadow.is_empty() {
        page.line("in shadow mode", "what these would deny is let through and recorded");
        rule_lines(page, &role.shadow, verbose);
    }
}

fn rule_lines(page: &mut Page, rules: &[RuleFacts], verbose: bool) {
    let width = rules.iter().map(|rule| rule.rule.len()).max().unwrap_or(0);
    for rule in rules {
        page.line("", &format!("{:width$}  {:>4}", rule.rule, rule.denies.len()));
        if verbose {
            for line in wrap(&rule.denies, WIDTH.saturating_sub(NAMES)) {
                page.line("", &format!("    {line}"));
            }
        }
    }
}

fn wrap(words: &[String], width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len().saturating_add(word.len()) < width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.clone()),
        }
    }
    lines
}

struct Page {
    out: String,
    colour: bool,
}

impl Page {
    fn heading(&mut self, text: &str) {
        let lead = if self.out.is_empty() { "" } else { "\n" };
        let (on, off) = if self.colour { ("\u{1b}[1m", "\u{1b}[0m") } else { ("", "") };
        let _ = writeln!(self.out, "{lead}{on}{text}{off}");
    }

    fn line(&mut self, name: &str, value: &str) {
        let _ = writeln!(self.out, "  {name:NAMES$}{value}");
    }

    fn list(&mut self, name: &str, values: &[String], none: &str) {
        if values.is_empty() {
            self.line(name, none);
        }
        for (at, value) in values.iter().enumerate() {
            self.line(if at == 0 { name } else { "" }, value);
        }
    }

    fn marked(&mut self, mark: &str, code: &str, text: &str) {
        if self.colour {
            let _ = writeln!(self.out, "\u{1b}[1;{code}m{mark}:\u{1b}[0m {text}");
        } else {
            let _ = writeln!(self.out, "{mark}: {text}");
        }
    }
}
