//! Whose the connections are of which a compact line says only the name.

use super::line::{Line, Whose};
use std::collections::{HashMap, VecDeque};

/// Most bytes of names that are remembered; then the connections that were opened first are forgotten, and shown by
/// their name alone.
const BYTES_MAX: usize = 32 << 20;
/// What one takes besides its names, about.
const EACH: usize = 256;

/// Connections that were opened and not closed, as far as a stream has told so far.
#[derive(Debug, Default)]
pub(super) struct Connections {
    known: HashMap<Box<str>, Known>,
    /// In the order in which they came; some are gone already.
    order: VecDeque<(Box<str>, u64)>,
    bytes: usize,
    /// Numbers those that come, so that a name that comes again is told from the one before.
    next: u64,
}

#[derive(Debug)]
struct Known {
    number: u64,
    service: Box<str>,
    src: Box<str>,
    identity: Box<str>,
    role: Box<str>,
}

impl Known {
    fn bytes(&self, conn: &str) -> usize {
        let names = [&*self.service, &*self.src, &*self.identity, &*self.role, conn, conn];
        names.iter().map(|name| name.len()).sum::<usize>().saturating_add(EACH)
    }
}

impl Connections {
    /// Whose the line is: as it says itself, or as an earlier one of its connection has said.
    pub(super) fn of<'s>(&'s self, line: &'s Line<'_>) -> Whose<'s> {
        let own = line.whose();
        if own.identity.is_some() {
            return own;
        }
        match line.conn().and_then(|conn| self.known.get(conn)) {
            Some(known) => Whose {
                service: Some(&known.service),
                src: Some(&known.src),
                identity: Some(&known.identity),
                role: Some(&known.role),
            },
            None => own,
        }
    }

    /// Remembers what the line says; called for every line, behind [`Self::of`].
    pub(super) fn note(&mut self, line: &Line<'_>) {
        let Some(conn) = line.conn() else { return };
        match line.event() {
            "connection_close" => self.forget(conn),
            "connection_open" | "client_auth" if line.whose().identity.is_some() => self.learn(conn, &line.whose()),
            _ => {}
        }
    }

    /// Remembers whose a connection is.
    pub(super) fn learn(&mut self, conn: &str, whose: &Whose<'_>) {
        self.forget(conn);
        let Whose { service, src, identity, role } = *whose;
        let known = Known {
            number: self.next,
            service: service.unwrap_or_default().into(),
            src: src.unwrap_or_default().into(),
            identity: identity.unwrap_or_default().into(),
            role: role.unwrap_or_default().into(),
        };
        self.bytes = self.bytes.saturating_add(known.bytes(conn));
        self.order.push_back((conn.into(), self.next));
        self.next = self.next.wrapping_add(1);
        self.known.insert(conn.into(), known);
        self.keep_within();
    }

    fn forget(&mut self, conn: &str) {
        if let Some(known) = self.known.remove(conn) {
            self.bytes = self.bytes.saturating_sub(known.bytes(conn));
        }
    }

    fn keep_within(&mut self) {
        while self.bytes > BYTES_MAX {
            let Some((conn, number)) = self.order.pop_front() else { return };
            if self.known.get(&conn).is_some_and(|known| known.number == number) {
                self.forget(&conn);
            }
        }
        if self.order.len() > self.known.len().saturating_mul(2).saturating_add(1024) {
            let known = &self.known;
            self.order.retain(|(conn, number)| known.get(conn).is_some_and(|known| known.number == *number));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(conn: &str, role: &str) -> String {
        format!(
            r#"{{"v":1,"ts":"t","event":"connection_open","conn":"{conn}","service":"s","src":"1.2.3.4:5","identity":"cn:x","role":"{role}"}}"#
        )
    }

    fn role_of(connections: &Connections, conn: &str) -> Option<String> {
        let line = format!(r#"{{"v":1,"ts":"t","event":"command","conn":"{conn}","cmd":"GET"}}"#);
        let line = Line::parse(line.as_bytes()).unwrap();
        connections.of(&line).role.map(str::to_owned)
    }

    #[test]
    fn a_compact_line_is_of_whom_its_connection_was_opened_for_until_it_is_closed() {
        let mut connections = Connections::default();
        connections.note(&Line::parse(open("a-1", "app").as_bytes()).unwrap());
        assert_eq!(role_of(&connections, "a-1").as_deref(), Some("app"));
        assert_eq!(role_of(&connections, "a-2"), None);
        let other = open("a-1", "admin").replace("connection_open", "client_auth");
        connections.note(&Line::parse(other.as_bytes()).unwrap());
        assert_eq!(role_of(&connections, "a-1").as_deref(), Some("admin"));
        let close = br#"{"v":1,"ts":"t","event":"connection_close","conn":"a-1"}"#;
        connections.note(&Line::parse(close).unwrap());
        assert_eq!(role_of(&connections, "a-1"), None);
        assert_eq!(connections.bytes, 0);
    }

    #[test]
    fn what_is_remembered_is_bounded_whether_connections_are_closed_or_not() {
        let mut connections = Connections::default();
        let long = "r".repeat(4096);
        for number in 0..20_000 {
            connections.note(&Line::parse(open(&format!("a-{number}"), &long).as_bytes()).unwrap());
        }
        assert!(connections.bytes <= BYTES_MAX);
        assert!(connections.known.len() > 5000 && connections.known.len() < 9000, "{}", connections.known.len());
        assert_eq!(role_of(&connections, "a-19999").as_deref(), Some(long.as_str()));
        assert_eq!(role_of(&connections, "a-0"), None);
        for number in 0..20_000 {
            let close = format!(r#"{{"v":1,"ts":"t","event":"connection_close","conn":"b-{number}"}}"#);
            connections.note(&Line::parse(open(&format!("b-{number}"), "app").as_bytes()).unwrap());
            connections.note(&Line::parse(close.as_bytes()).unwrap());
        }
        assert!(connections.order.len() < 30_000, "{}", connections.order.len());
    }
}
