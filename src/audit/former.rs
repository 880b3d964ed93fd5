//! A plain line, rendered by what the one before it has in common with it.
//!
//! ```text
//! {"v":1,"w":0,"seq":7   ,"ts":… ,"event":"command" ,"conn":… ,"db":0 ,"cmd":"get" ,"argc":2 ,"keys":["   k:1   "] ,"context":… ,"us":93}
//! number                 subject                                                                          key   course
//! ```
//!
//! Commands that a client pipelines differ in their number and their key, and mostly in nothing else: subject and course are then
//! copied from the line before, each at once, which leaves four appends of sixteen. An append costs more than its bytes.

use super::{
    encode::known,
    json::{count, number},
    outlet::{Front, Shape},
};
use crate::{command::CommandId, resp::reply::Class};
use std::ops::Range;

/// What a subject says, but for the connection: that is compared by its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) wall_us: u64,
    pub(super) id: CommandId,
    pub(super) db: u32,
    pub(super) argc: u32,
    /// Whether a key follows.
    pub(super) keyed: bool,
}

/// What a course says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Course {
    pub(super) class: Class,
    pub(super) keyed: bool,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) us: u64,
}

/// Where in a buffer the newest subject and course stand. Whoever takes the buffer's lines away forgets this too.
#[derive(Clone, Debug, Default)]
pub(super) struct Former {
    subject: Option<(Subject, Range<usize>)>,
    /// What of the subject is the connection's.
    fragment: Range<usize>,
    course: Option<(Course, Range<usize>)>,
}

impl Former {
    /// Forgets the lines.
    pub(super) const fn forget(&mut self) {
        self.subject = None;
        self.course = None;
    }

    /// Appends a subject: `ts` to `argc`, and the front of `keys`.
    #[inline]
    pub(super) fn subject(
        &mut self,
        out: &mut Vec<u8>,
        front: &Front<'_>,
        fragment: &[u8],
        subject: Subject,
        shape: Shape,
    ) {
        if let Some((former, place)) = &self.subject
            && *former == subject
            && out.get(self.fragment.clone()) == Some(fragment)
        {
            out.extend_from_within(place.clone());
            return;
        }
        let start = out.len();
        out.extend_from_slice(front.stamp);
        out.extend_from_slice(b"command\"");
        let before = out.len();
        out.extend_from_slice(fragment);
        self.fragment = before..out.len();
        match (subject.db, shape) {
            (0, Shape::Full) => out.extend_from_slice(b",\"db\":0"),
            (0, Shape::Compact) => {}
            (db, _) => {
                out.extend_from_slice(b",\"db\":");
                number(out, db);
            }
        }
        out.extend_from_slice(known(subject.id));
        count(out, u64::from(subject.argc));
        match (subject.keyed, shape) {
            (true, _) => out.extend_from_slice(b",\"keys\":[\""),
            (false, Shape::Full) => out.extend_from_slice(b",\"keys\":["),
            (false, Shape::Compact) => {}
        }
        self.subject = Some((subject, start..out.len()));
    }

    /// Appends a course: from the end of `keys` to the end of the line. `usual` is what stands before the number of bytes.
    #[inline]
    pub(super) fn course(&mut self, out: &mut Vec<u8>, course: Course, shape: Shape, usual: &'static [u8]) {
        if let Some((former, place)) = &self.course
            && *former == course
        {
            out.extend_from_within(place.clone());
            return;
        }
        let start = out.len();
        match (course.keyed, shape) {
            (true, _) => out.extend_from_slice(b"\"]"),
            (false, Shape::Full) => out.push(b']'),
            (false, Shape::Compact) => {}
        }
        out.extend_from_slice(usual);
        count(out, course.bytes_in);
        out.extend_from_slice(b",\"bytes_out\":");
        count(out, course.bytes_out);
        out.extend_from_slice(b",\"us\":");
        count(out, course.us);
        out.extend_from_slice(b"}\n");
        self.course = Some((course, start..out.len()));
    }
}
