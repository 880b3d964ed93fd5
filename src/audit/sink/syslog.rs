//! Syslog: each line a message (the framing is [`super::rfc5424`]'s), over what the receiver listens on.
//!
//! | address | how messages travel |
//! |---|---|
//! | `unix:…` | a datagram each, or if it is a stream socket as over TCP |
//! | `udp:…` | a datagram each (RFC 5426): what does not arrive is lost, and nobody knows |
//! | `tcp:…` | octet counting (RFC 6587 §3.4.1): `LENGTH SP MESSAGE` |
//!
//! A datagram that the system refuses for its length (`EMSGSIZE`) halves the length that messages may have from then on:
//! an output must not stand still because of what a client called its key.

use super::{
    rfc5424::{Framer, MESSAGE_MIN},
    stream::{Stream, connect, is_passing, not_connected, try_connect},
};
use crate::audit::target::{Address, SyslogTarget};
use rustix::io::Errno;
use socket2::{Socket, Type};
use std::{
    collections::VecDeque,
    fs,
    io::{self, ErrorKind},
    os::fd::{AsFd as _, BorrowedFd},
};

/// Messages that are written to a stream at once, in bytes.
const BLOCK: usize = 32 * 1024;
/// Datagrams that are sent before the thread looks around.
const DATAGRAMS: usize = 64;

/// A receiver of messages.
pub(super) struct Syslog {
    address: Address,
    framer: Framer,
    channel: Channel,
}

enum Channel {
    /// Not connected, and what it is not known yet.
    None,
    Datagrams(Socket),
    Stream(Stream, Framed),
}

/// Messages that are ready for a stream, of lines that the thread still holds.
#[derive(Default)]
struct Framed {
    bytes: Vec<u8>,
    sent: usize,
    /// Where each message ends, and how long its line is.
    ends: VecDeque<(usize, usize)>,
}

impl Syslog {
    pub(super) fn new(target: &SyslogTarget) -> Self {
        let hostname = target.hostname.clone().unwrap_or_else(hostname);
        let framer = Framer::new(target.facility, &hostname, std::process::id(), target.message_max);
        Self { address: target.address.clone(), framer, channel: Channel::None }
    }

    /// Sends messages of the lines at the front; the bytes of lines that are gone.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if matches!(self.channel, Channel::None) {
            self.channel = open(&self.address)?;
        }
        match &mut self.channel {
            Channel::None => Ok(0),
            Channel::Datagrams(socket) => {
                let sent = send(socket, &mut self.framer, lines);
                if sent.as_ref().is_err_and(|error| !is_passing(error)) {
                    self.channel = Channel::None;
                }
                sent
            }
            Channel::Stream(stream, framed) => {
                let sent = framed.write(stream, &mut self.framer, lines);
                if !stream.is_connected() {
                    self.channel = Channel::None;
                }
                sent
            }
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.channel {
            Channel::None => None,
            Channel::Datagrams(socket) => Some(socket.as_fd()),
            Channel::Stream(stream, _) => stream.fd(),
        }
    }

    /// Lets go of a connection that the receiver has closed.
    pub(super) fn look(&mut self) {
        if let Channel::Stream(stream, _) = &mut self.channel {
            stream.look();
            if !stream.is_connected() {
                self.channel = Channel::None;
            }
        }
    }
}

/// As syslog(3) does it: a Unix socket is one of datagrams until it turns out to be one of streams.
fn open(address: &Address) -> io::Result<Channel> {
    let stream = |socket| Channel::Stream(Stream::over(address.clone(), socket), Framed::default());
    match address {
        Address::Tcp(_) => connect(address, Type::STREAM).map(stream),
        Address::Udp(_) => connect(address, Type::DGRAM).map(Channel::Datagrams),
        Address::Unix(_) => match try_connect(address, Type::DGRAM) {
            Ok(socket) => Ok(Channel::Datagrams(socket)),
            Err(error) if error.raw_os_error() == Some(Errno::PROTOTYPE.raw_os_error()) => {
                connect(address, Type::STREAM).map(stream)
            }
            Err(error) => Err(not_connected(address, &error)),
        },
    }
}

/// One datagram for each line.
fn send(socket: &Socket, framer: &mut Framer, lines: &[u8]) -> io::Result<usize> {
    let mut gone = 0_usize;
    for line in lines.split_inclusive(|byte| *byte == b'\n').take(DATAGRAMS) {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if text.is_empty() {
            gone = gone.saturating_add(line.len());
            continue;
        }
        let sent = socket.send(framer.message(text));
        match sent {
            Ok(_) => gone = gone.saturating_add(line.len()),
            Err(error) if is_too_long(&error) && framer.max > MESSAGE_MIN => {
                framer.max = (framer.max.min(text.len()) / 2).max(MESSAGE_MIN);
                tracing::warn!(
                    max = framer.max,
                    "a syslog message was too long for its socket; from now on they are shorter"
                );
                break;
            }
            Err(_) if gone > 0 => break,
            Err(error) => return Err(error),
        }
    }
    if gone == 0 { Err(ErrorKind::Interrupted.into()) } else { Ok(gone) }
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

impl Framed {
    /// Writes messages with their lengths; the bytes of the lines of which the kernel has taken all.
    fn write(&mut self, stream: &mut Stream, framer: &mut Framer, lines: &[u8]) -> io::Result<usize> {
        if self.ends.is_empty() {
            self.bytes.clear();
            self.sent = 0;
            for line in lines.split_inclusive(|byte| *byte == b'\n') {
                let text = line.strip_suffix(b"\n").unwrap_or(line);
                if !text.is_empty() {
                    let message = framer.message(text);
                    self.bytes.extend_from_slice(itoa::Buffer::new().format(message.len()).as_bytes());
                    self.bytes.push(b' ');
                    self.bytes.extend_from_slice(message);
                }
                self.ends.push_back((self.bytes.len(), line.len()));
                if self.bytes.len() >= BLOCK {
                    break;
                }
            }
        }
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        if !rest.is_empty() {
            self.sent = self.sent.saturating_add(stream.write(rest)?);
        }
        let mut gone = 0_usize;
        while let Some((end, line)) = self.ends.front()
            && *end <= self.sent
        {
            gone = gone.saturating_add(*line);
            self.ends.pop_front();
        }
        // A part of a message is no line yet; the rest follows at once.
        if gone == 0 { Err(ErrorKind::Interrupted.into()) } else { Ok(gone) }
    }
}

fn hostname() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::{fd::OwnedFd, unix::net::UnixDatagram};

    #[test]
    fn a_message_that_the_socket_finds_too_long_is_shortened_and_sent() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let socket = Socket::from(OwnedFd::from(ours));
        // The least that Linux allows: less than a message of this size takes.
        socket.set_send_buffer_size(1).unwrap();
        let mut framer = Framer::new(16, "h", 1, 32 * 1024);
        let line = format!(
            "{{\"v\":1,\"w\":0,\"seq\":7,\"ts\":\"2026-11-20T21:10:03.412345Z\",\"event\":\"command\",\"keys\":[\"{}\"],\"verdict\":\"allow\"}}\n",
            "k".repeat(15_000)
        );
        let mut attempts = 0;
        let gone = loop {
            attempts += 1;
            match send(&socket, &mut framer, line.as_bytes()) {
                Ok(gone) => break gone,
                Err(error) => assert!(error.kind() == ErrorKind::Interrupted && attempts < 10, "{error}"),
            }
        };
        assert_eq!(gone, line.len());
        assert!(attempts > 1 && framer.max < 32 * 1024);
        let mut space = [0; 65536];
        let length = theirs.recv(&mut space).unwrap();
        let text = String::from_utf8_lossy(&space[..length]);
        assert!(length <= framer.max && text.ends_with("\"verdict\":\"allow\",\"message_cut\":[\"keys\"]}"), "{text}");
    }
}
