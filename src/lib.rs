//! # Ravelin, from the inside
//!
//! A *ravelin* is the outwork that stands alone in front of a fortress wall. This one stands in front of a Redis that
//! cannot defend itself: it terminates mutual TLS, decides who may come in and what they may say, speaks to Redis with
//! a credential the client never sees, and writes down every command. One binary, one configuration file, one process
//! beside one Redis. What it does for its users is in the README; this page is the map for those who change it.
//!
//! ## Two halves
//!
//! ```text
//!  shell   main → cli → server → { net, tls, audit::sink, admin, metrics, drain }     sockets, threads, files, clocks, signals
//!                         │         │
//!  values                 └ config  │       settings come apart in `server`; no pure module ever sees them whole
//!                                   ▼
//!  core              session ◄──► lane                                                bytes, time and values only
//!                       │
//!                       ▼
//!                    policy ──► command ──► resp          audit (what is remembered, and proven; but for its sinks)
//! ```
//!
//! * The **core** ([`resp`], [`command`], [`policy`], [`session`], [`lane`], all of [`audit`] but its sinks, with the leaves
//!   [`moment`] and [`secret`]) is handed bytes and an instant and hands back bytes to write and records. It is tested
//!   without a port, with virtual time.
//! * The **shell** ([`net`], [`tls`], [`audit::sink`], [`admin`], [`metrics`], [`server`], [`drain`], [`cli`]) moves
//!   bytes and does what [`session::Wants`] says. It decides nothing about commands. [`admin`] serves an address to whoever
//!   reaches it and a socket to operators (`tests/conns.rs`); what a connection is doing is asked of its session.
//!
//! Invariants, each with the test that holds it:
//!
//! * The core names no socket, task, file, clock or TLS, and imports point one way (`tests/layering.rs`).
//! * No command name is compared outside [`command`] and [`policy`] (`tests/catalog_names.rs`).
//! * A session cannot be made without the proof that its peer's address was admitted and its certificate matched one
//!   role: [`policy::network::Admitted`] and [`policy::identity::AuthenticatedPeer`] have one maker each.
//! * What goes up is nothing but canonically encoded commands that policy allowed; replies come down in the order they
//!   were asked for; every command has one record (`session::properties`, `tests/differential.rs`, `tests/witness.rs`).
//! * A word that decides is written in the one way that every release reads alike, or the command is denied
//!   ([`command::strict`], `tests/strict_options`).
//! * What a server is told first, and what it answers, is its own, whatever its release (`tests/fallback.rs`,
//!   `tests/states_twins.rs`; before every release by `tests/matrix.sh`).
//! * Rules mean what Redis' ACLs mean, or are stricter for a listed reason (`tests/acl_oracle`); no known attack gets past
//!   the default policy in any wrapping (`tests/attacks.rs`); a command's secret name goes up only, and no error
//!   shows it at any depth (`tests/rename.rs`). Which databases a command touches is one table, whoever judges by it
//!   ([`command::databases`], `tests/databases.rs`).
//! * No audit line is lost, doubled or split, whatever becomes of its file or receiver; one that is late, deaf or gone stalls
//!   clients and not memory (`tests/audit_rotation.rs`, `tests/audit_receivers.rs`); what was changed in files with
//!   checkpoints is found ([`audit::verify`], `tests/audit_proof.rs`); no secret is in any of it (`tests/audit_secrets.rs`).
//! * No TLS session outlives a reload, and a resumed one is judged again (`tls::tests`, `tests/tls.rs`).
//! * A client gets its turn and an address that is up, or is told ([`net::keeper`], `tests/upstream_life.rs`); what was
//!   encrypted counts as sent ([`tls::stream`], `tests/upstream_ends.rs`).
//! * A limit in time delays or denies and invents no reply (`session::toll_tests`, `tests/limits.rs`); no attack before
//!   TLS costs more than its bound, nor keeps anybody out who comes from elsewhere ([`policy::turnstile`], [`policy::newcomers`],
//!   `tests/abuse.rs`).
//! * Nothing acknowledged is lost and nobody is left waiting, whatever befalls Redis, the disk, the certificates or the
//!   process (`tests/misfortunes.rs`, `tests/wall_clock.rs`, `deploy/docs/failures.md`); a drain has one order (`tests/handover.rs`).
//! * No command allocates once its connection is warm (`tests/allocation.rs`).
//! * `ravelin explain` says what the proxy does, because it asks the same session ([`session::trial`], `tests/explain.rs`).
//! * Memory has the bounds of `deploy/docs/memory.md` (`tests/flow_memory.rs`).
//!
//! What holds all of these together from outside: a real Redis (`tests/differential.rs`), another's reader and Redis' own
//! counters (`tests/witness.rs`), faults planted on purpose (`tests/faults.sh`), fuzz targets whose corpora every run of
//! the tests replays (`tests/fuzz`, `tests/fuzz_corpus.rs`), and the clients people use (`tests/clients.sh`). How far each
//! has been run is in `deploy/docs/oracles.md` and `fuzzing.md`.
//!
//! ## Vocabulary
//!
//! *Downstream* is the client's side, *upstream* Redis'. A *peer* is who is at the other end; its *identity* is what
//! its certificate proves, its *role* what that identity may do here. *Admission* is by address, before any TLS byte. A
//! *command* is a whole request, a *reply* what answers it. A *slot* is a promised reply as the session knows it, a
//! *ticket* the same as its lane knows it. A *verdict* is what policy says of a command, by a *rule*. A *record* is one
//! line of the audit stream. To *refuse* happens before there is an identity, to *deny* after. *Settings* are the
//! configuration once it has been understood.
//!
//! ## One command, one reply
//!
//! Once per connection: [`net`]'s listener accepts; [`policy::network`] admits or refuses, and so does [`policy::bans`]; the
//! socket goes to the worker with the fewest connections; a trusted proxy's header and the first TLS record are waited for
//! before a place among [`net::handshakes`] is taken; [`tls`] handshakes under a deadline and reads the identity (a tunnel's
//! client has neither, and is the anonymous one);
//! [`policy::identity`] finds the role; the upstream is connected and the [`lane::greeting`] answered (`-NOAUTH` to a PING, then `+OK` to AUTH).
//!
//! A command, down: plaintext arrives → [`resp::request`] yields one command → [`command::resolve`] finds its row →
//! [`policy::rules`] gives the verdict → there is room for its record → allowed: a slot is queued and the very bytes
//! that were read are passed on; denied or answered here: a slot that holds its reply is queued. All of a turn is
//! written up at once.
//!
//! A reply, up: [`resp::reply`] finds its end and class → [`lane`] says whose it is → the front slot closes and its
//! record is written → the proxy's own replies that now stand at the front are released. All of a turn is written
//! down at once.
//!
//! ## What the code relies on
//!
//! * *One accepted command is one slot, and a ticket names what closes it* ([`lane::Closes`]).
//! * *State is kept twice*: intended (after all that was forwarded; verdicts look at it) and confirmed (after all that
//!   was answered; records look at it). HELLO, RESET, EXEC with arguments, and MULTI on a RESP2 connection that has
//!   subscribed are barriers: nothing behind them is judged until they are answered.
//! * *A server refuses in its own words*: what every known release refuses (HELLO 4, SELECT of no number, EXEC with
//!   arguments) goes up as it is, and a server that takes it is closed upon; what one release reads as something else
//!   (`SELECT +1`, an option with a NUL) is answered here.
//! * *Room for the record*: a command is accepted, and a reply taken, only while one more record of the greatest length
//!   fits the worker's pen for every output that commands wait for ([`audit::record::Recorder::has_room`]). What was accepted
//!   keeps all that its record needs in its slot, so a blocked sink stalls clients and loses nothing.
//! * *A verdict is given twice*: by the command's row, and only where a rule looks at them by its words
//!   ([`policy::rules::Policy::look`], `judge_words`, `judge_arguments`). A rule in shadow mode is a verdict that lets through.
//! * *Questions*: a client's AUTH that is to be looked up waits at the front of the input ([`session::inquiry`]) until the
//!   shell ([`net`]'s gate and helper) has answered; `policy::bans` sends guessers away. A selected role is a new lane
//!   before a new upstream.
//! * *Streams*: MONITOR, SYNC and PSYNC go up only when nothing is owed. MONITOR's lines are told from replies by their
//!   first digit; a replication stream keeps its slot to the end of the connection and passes unlooked at downward, while
//!   upward only acknowledgements pass ([`lane::stream`]).
//! * *Begin lines*: a command that blocks, administers or destroys (with `audit.begin = "writes"`, any that can write) waits
//!   at the front of the input until its `begin` line has been written (`tests/audit_begin.rs`).
//! * *Outputs*: a pen renders for each output by itself ([`audit::outlet`]), what its filter takes and in its shape; a sink's
//!   thread appends in one place, where the chain ([`audit::chain`]) and whoever looks on hear of the same bytes.
//! * *An error never speaks for a command that may have run*: when Redis is lost, only a command the kernel never took
//!   is told so; the others are closed upon, and recorded `unanswered`.
//!
//! ## Speed
//!
//! The measure is CPU time per command of proxy plus Redis. Workers are single-threaded runtimes that share nothing but
//! immutable `Arc`s; one task per connection drives its four halves in one poll function; a clock is read once per turn;
//! contiguous runs of allowed commands and replies are never copied ([`session::gather`]); a few commands go up when the
//! other ready connections have had their turn, those of all by one system call (`net::burst`), so that Redis is woken once,
//! and a busy worker asks the kernel not to interrupt Redis for each client that has something (`net::pace`);
//! what nearly every command is has a short way through session and record, many at a stretch (`session::plain`,
//! [`audit::plain`]), which properties hold against the long one; records are rendered into one buffer per worker and output,
//! what a line has in common with the one before it by a copy (`audit::former`), and handed over in blocks; a chain of
//! certificates that was verified is remembered for minutes (`tls::proven`), until anything of it ends or is revoked. Two
//! counts guard it: instructions (`benches/core/instructions.txt`) and system calls (`tests/syscalls.rs`).
//! `benches/README.md` has the questions and the figures.
//!
//! ## Deliberately absent
//!
//! * No multi-threaded runtime on the path of a command, no task per command, no lock per command.
//! * No resynchronising after a reply that cannot be framed, no replaying of a command.
//! * No forwarding of SCRIPT DEBUG: it is denied whatever policy says ([`policy::RuleId::UNSUPPORTED`]).
//! * No second connection of a replica (`capa rdb-channel-repl`, `dual-channel`) and no `PSYNC … FAILOVER`
//!   ([`lane::stream`], `deploy/docs/replication.md`).
//! * Nothing under [`session`] knows that TLS exists; nothing under [`net`] knows what a command is.

pub mod admin;
pub mod audit;
pub mod cli;
pub mod command;
pub mod config;
pub mod drain;
pub mod lane;
pub mod metrics;
pub mod moment;
pub mod net;
pub mod policy;
pub mod resp;
pub mod secret;
pub mod server;
pub mod session;
pub mod tls;
