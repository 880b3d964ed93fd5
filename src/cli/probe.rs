//! A look at Redis for `ravelin check`: is it there, does it take our credential, how many clients does it take.

use crate::{
    config::settings::{Host, Upstream, UpstreamAddress},
    net::resolve::ADDRESSES_MAX,
    tls::{client::TlsClient, refusal},
};
use rustls::pki_types::UnixTime;
use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream, ToSocketAddrs as _},
    os::unix::{fs::MetadataExt, net::UnixStream},
    time::Duration,
};

/// Longest wait for each step.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most bytes of an answer that are read.
const ANSWER_MAX: usize = 4096;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Finding {
    /// It answers and takes our credential; `maxclients` if it may be asked.
    Answers { maxclients: Option<u64> },
    /// Its socket is not to be trusted, so nothing was sent.
    Untrusted(String),
    /// It cannot be reached now.
    Unreachable(String),
    /// It refuses our credential, or asks for one where `auth = "none"`.
    Refuses(String),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answers { maxclients: Some(most) } => {
                write!(f, "answers and takes the credential (maxclients {most})")
            }
            Self::Answers { maxclients: None } => f.write_str("answers and takes the credential"),
            Self::Untrusted(why) => write!(f, "not asked: {why}"),
            Self::Unreachable(why) => write!(f, "cannot be reached now: {why}"),
            Self::Refuses(why) => write!(f, "answers, but refuses: {why}"),
        }
    }
}

/// Connects, authenticates as a session would, and asks for `maxclients`.
pub(super) fn redis(upstream: &Upstream) -> Finding {
    let tls = match upstream.tls.as_ref().map(|files| TlsClient::load(files, UnixTime::now())).transpose() {
        Ok(tls) => tls,
        Err(error) => return Finding::Unreachable(error.to_string()),
    };
    let found = match &upstream.address {
        UpstreamAddress::Loopback(address) => Ok(vec![*address]),
        UpstreamAddress::Remote { host: Host::Ip(address), port } => Ok(vec![SocketAddr::new(*address, *port)]),
        // As at a session's connect, but here the thread may wait for the resolver.
        UpstreamAddress::Remote { host: Host::Name(name), port } => {
            (&**name, *port).to_socket_addrs().map(|found| found.take(ADDRESSES_MAX).collect())
        }
        UpstreamAddress::Unix(_) => Ok(Vec::new()),
    };
    let outcome = match &upstream.address {
        UpstreamAddress::Unix(path) => {
            let trusted = std::fs::metadata(path).map(|file| upstream.socket.judge(file.uid(), file.mode()));
            match trusted {
                Err(error) => return Finding::Unreachable(error.to_string()),
                Ok(Err(fault)) => return Finding::Untrusted(fault.to_string()),
                Ok(Ok(())) => {}
            }
            UnixStream::connect(path).and_then(|stream| {
                // The file may have been put there by one and be listened on by another.
                let peer = rustix::net::sockopt::socket_peercred(&stream)?;
                if let Err(fault) = upstream.socket.judge_owner(peer.uid.as_raw()) {
                    return Ok(Finding::Untrusted(fault.to_string()));
                }
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                through(tls.as_ref(), stream, upstream)
            })
        }
        UpstreamAddress::Loopback(_) | UpstreamAddress::Remote { .. } => found.and_then(connect).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            through(tls.as_ref(), stream, upstream)
        }),
    };
    outcome.unwrap_or_else(|error| Finding::Unreachable(error.to_string()))
}

/// The first that accepts.
fn connect(addresses: Vec<SocketAddr>) -> io::Result<TcpStream> {
    let mut last = io::Error::other("the name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn through(tls: Option<&TlsClient>, stream: impl Read + Write, upstream: &Upstream) -> io::Result<Finding> {
    let Some(tls) = tls else { return talk(stream, upstream) };
    match tls.connect_blocking(upstream.address.certificate_name().as_ref(), stream) {
        Ok(stream) => talk(stream, upstream).map_err(|error| {
            // A server that does not accept our certificate says so when it is first read from.
            refusal::of_stream(&error).map_or(error, |failure| io::Error::other(failure.to_string()))
        }),
        Err(failure) => Ok(Finding::Unreachable(failure.to_string())),
    }
}

fn talk(mut stream: impl Read + Write, upstream: &Upstream) -> io::Result<Finding> {
    if upstream.proxy_protocol {
        // For nobody but ourselves.
        stream.write_all(&crate::net::proxy_protocol::local())?;
    }
    if let Some(credential) = upstream.credential() {
        let mut words: Vec<&[u8]> = vec![b"AUTH"];
        words.extend(credential.username.as_ref().map(String::as_bytes));
        words.push(credential.password.expose());
        let answer = ask(&mut stream, &words, 1)?;
        if answer != b"+OK\r\n" {
            return Ok(Finding::Refuses(first_line(&answer)));
        }
    }
    let answer = ask(&mut stream, &[b"PING"], 1)?;
    if answer.starts_with(b"-NOAUTH") || answer.starts_with(b"-DENIED") {
        return Ok(Finding::Refuses(first_line(&answer)));
    }
    // *2, two bulks of two lines each; or one line of error where the user may not ask.
    let answer = ask(&mut stream, &[b"CONFIG", b"GET", b"maxclients"], 5)?;
    let text = String::from_utf8_lossy(&answer);
    let maxclients = text.lines().nth(4).filter(|_| text.starts_with("*2\r\n")).and_then(|line| line.parse().ok());
    Ok(Finding::Answers { maxclients })
}

/// Sends one command; reads `lines` lines, or one if it is an error.
fn ask(stream: &mut (impl Read + Write), words: &[&[u8]], lines: usize) -> io::Result<Vec<u8>> {
    // One write, wiped afterwards: it may hold the password.
    let mut command = zeroize::Zeroizing::new(format!("*{}\r\n", words.len()).into_bytes());
    command.reserve_exact(words.iter().map(|word| word.len().saturating_add(32)).sum());
    for word in words {
        command.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        command.extend_from_slice(word);
        command.extend_from_slice(b"\r\n");
    }
    stream.write_all(&command)?;
    let mut answer = Vec::new();
    let mut piece = [0; 512];
    loop {
        let read = stream.read(&mut piece)?;
        answer.extend_from_slice(piece.get(..read).unwrap_or_default());
        let whole = memchr::memchr_iter(b'\n', &answer).count();
        if whole >= lines || (whole >= 1 && answer.starts_with(b"-")) {
            return Ok(answer);
        }
        if read == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
        }
        if answer.len() > ANSWER_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it does not answer as Redis does"));
        }
    }
}

/// The first line of an answer, for people.
fn first_line(answer: &[u8]) -> String {
    let text = String::from_utf8_lossy(answer);
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches('-').chars().filter(|c| !c.is_control()).take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::{Finding, talk};
    use crate::{
        config::settings::{ClientAuth, SocketPolicy, Upstream, UpstreamAddress},
        lane::greeting::{Credential, Greeting},
        net::upkeep::{Storm, Tuning},
        secret::Secret,
    };
    use std::{
        io::{self, Read, Write},
        time::Duration,
    };

    /// A Redis that says what it was told to say, a byte at a time, and remembers what it heard.
    struct Script<'s> {
        says: &'s [u8],
        heard: Vec<u8>,
    }

    impl Read for Script<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let Some((byte, rest)) = self.says.split_first() else { return Ok(0) };
            buffer[0] = *byte;
            self.says = rest;
            Ok(1)
        }
    }

    impl Write for Script<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn probe(password: Option<&str>, says: &str) -> (io::Result<Finding>, String) {
        let credential = password.map(|password| Credential {
            username: Some("u".into()),
            password: Secret::new(password.into()),
            others: Vec::new(),
        });
        let upstream = Upstream {
            address: UpstreamAddress::Unix("/r".into()),
            greeting: Greeting { credential, database: None, set_name: true },
            password: None,
            client_auth: ClientAuth::Refuse,
            connect_timeout: Duration::from_secs(1),
            socket: SocketPolicy::default(),
            proxy_protocol: false,
            tls: None,
            alternatives: Vec::new(),
            tuning: Tuning::default(),
            storm: Storm::default(),
        };
        let mut script = Script { says: says.as_bytes(), heard: Vec::new() };
        let found = talk(&mut script, &upstream);
        (found, String::from_utf8(script.heard).unwrap())
    }

    #[test]
    fn a_redis_that_takes_the_credential_is_asked_for_maxclients() {
        let (found, heard) = probe(Some("p w"), "+OK\r\n+PONG\r\n*2\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n");
        assert_eq!(found.unwrap(), Finding::Answers { maxclients: Some(10_000) });
        assert!(heard.starts_with("*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$3\r\np w\r\n*1\r\n$4\r\nPING\r\n"), "{heard}");
    }

    #[test]
    fn a_refusal_is_told_from_an_answer() {
        let rows = [
            (
                Some("x"),
                "-WRONGPASS invalid username-password pair\r\n",
                Finding::Refuses("WRONGPASS invalid username-password pair".into()),
            ),
            (None, "-NOAUTH Authentication required.\r\n", Finding::Refuses("NOAUTH Authentication required.".into())),
            (None, "+PONG\r\n-NOPERM no CONFIG\r\n", Finding::Answers { maxclients: None }),
            (None, "-NOPERM no PING\r\n-NOPERM no CONFIG\r\n", Finding::Answers { maxclients: None }),
        ];
        for (password, says, expected) in rows {
            assert_eq!(probe(password, says).0.unwrap(), expected, "{says:?}");
        }
    }

    #[test]
    fn something_else_than_redis_is_an_error() {
        assert!(probe(None, "").0.is_err());
        assert!(probe(None, &"x".repeat(5000)).0.is_err());
    }
}
