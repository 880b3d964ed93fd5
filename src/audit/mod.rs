//! The audit stream: what is remembered of each command and connection (pure), and where it is written (shell).
//!
//! One JSON object a line, at most [`encode::MAX_LINE`] bytes with its newline, UTF-8 without a control character. The
//! fields of an event always stand in the order given here. A field that is marked *opt* is left out when it does not
//! apply; the others are always there, `null` when there is nothing to say. A field that may hold foreign text may be
//! followed by `…_cut: true`: only its front is shown. Further fields may be added within version 1; none is taken
//! away or changes its meaning. Words not listed here are in the code where they are made, as literals.
//!
//! `ravelin schema audit` prints all of this as a JSON schema ([`schema`]). Every line begins:
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `v` | number | version of this description, 1 |
//! | `w` | number | the pen: a worker, or the highest number for what belongs to none |
//! | `seq` | number | the line's number at this pen since the process started; the first is 1, and there are no holes |
//! | `ts` | string | when the turn began that wrote it: RFC 3339 in UTC with microseconds |
//! | `event` | string | which of the tables below goes on |
//!
//! Order across pens is the order of the lines. Lines of one connection all have the same `w`.
//!
//! The events of a connection (`command`, `begin`, `upstream_command`, `connection_open`, `connection_close`,
//! `upstream_failed`, `client_auth`, `ban`, `alarm`, `notice`) go on with:
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `conn` | string | the connection |
//! | `service` | string | the service's name |
//! | `src` | string | address and port of the client |
//! | `identity` | string | the name that the client's certificate proves and its role was found by |
//! | `role` | string | the role's name |
//! | `upstream_user` | string or null | the Redis user it acts as; null is the default user |
//!
//! `command`, at the end of each command, and `begin`, before a command goes up that blocks, streams, administers or
//! destroys. A connection's `begin` lines are followed by as many `command` lines of these commands, in order;
//! a `begin` without one ran at most until the process was killed.
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `db` | number | the database, as last confirmed by Redis |
//! | `cmd` | string | the command, in upper case; as it came if the catalog does not know it |
//! | `cmd_b64` | string *opt* | an unknown command that is no UTF-8, in base64 |
//! | `cmd_cut` | true *opt* | an unknown command longer than 64 bytes |
//! | `sub` `sub_b64` `sub_cut` | *opt* | likewise, the subcommand |
//! | `argc` | number | words, the name among them |
//! | `keys` | array or null | the keys, or null if they cannot be told. Each is a string; `{"b64":…}` if it is no UTF-8; `{"text":…,"cut":true}` or `{"b64":…,"cut":true}` if only its front is shown |
//! | `keys_cut` `keys_total` | *opt* | not all keys are shown, and how many there are |
//! | `keys_hmac` | array or null | in the place of `keys` with `arguments = "hashed"`: HMAC-SHA-256 of each key, its first 16 bytes in hexadecimal; `{"hmac":…,"cut":true}` for a key of which only the front (256 bytes) was hashed |
//! | `args` | array *opt* | with `arguments = "values"`, where [`arguments::Values`] keeps them: the words behind the name, as `keys` shows them; null for a secret |
//! | `args_cut` | true *opt* | not all words are shown |
//! | `script_sha1` | string *opt* | of EVAL, EVALSHA, SCRIPT LOAD, FUNCTION LOAD and their kin: the SHA-1 by which Redis knows the script |
//! | `script_bytes` | number *opt* | the bytes of its body, where it was sent |
//! | `context` | string | `top` or `multi` |
//! | `tx` | number *opt* | the transaction's number on this connection |
//! | `verdict` | string | `allow`, `deny`, or `answer`: the proxy answered by itself |
//! | `rule` | string *opt* | the rule that denied it |
//! | `shadow` | string *opt* | the rule in shadow mode that would have denied it |
//! | `outcome` | string | not in `begin`. See [`record::Outcome`] |
//! | `reply` | string or null | not in `begin`. The code of an error (`WRONGTYPE`), in upper case; else the reply's class, in lower case (`error` if the error has no code) |
//! | `elements` `elements_total` | *opt* | EXEC: the classes of its first 128 elements, and how many there were |
//! | `bytes_in` | number | bytes of the command |
//! | `bytes_out` | number | not in `begin`. Bytes of the reply the client was sent |
//! | `us` | number or null | not in `begin`. Microseconds from acceptance to the end of the reply |
//! | `notable` | array *opt* | not in `begin`. What the configuration says is worth a second look: `slow`, `large_request`, `large_reply`, `first_seen` ([`watch`]) |
//!
//! The other events, with what follows the fields above:
//!
//! | event | when | fields |
//! |---|---|---|
//! | `upstream_command` | the proxy's own command was answered | `cmd`, `outcome`, `reply` (an error's code or null), `us` |
//! | `connection_open` | the peer is in and its upstream ready | *opt* `tls` `cipher` `resumed`, *opt* `sni` (the name the client asked for), *opt* `cert_sha256` `cert_serial` `cert_not_after`, *opt* `via` (the proxy that named it as `src`), `proxy` (what that said of it besides), *opt* `pid` `uid` `gid` (the process that connected to a Unix socket: its `src` is `127.0.0.1:0`; `pid` is 0 if it is in another namespace) |
//! | `connection_close` | the end | `reason` ([`crate::session::error::CloseReason::word`]), `detail`, `commands`, `denied`, `bytes_in`, `bytes_out` (plaintext), `us` |
//! | `upstream_failed` | no upstream could be had | `reason`, `detail` |
//! | `client_auth` | the client sent AUTH, or HELLO with it | `cmd`, `verdict` (`allow`, `deny`, `ignore`, `unavailable`) |
//! | `role_changed` | a reload has given the connection another role, which the line names | `was` |
//! | `ban` | after too many wrong passwords: the address and the certificate are sent away | `us` (for how long) |
//! | `alarm` | somebody should look | `reason` |
//! | `notice` | many denials, or much read ([`watch`]) | `notice` (`denial_burst`, `bulk_read`), `amount` (denials, or bytes), `us` (in how long) |
//! | `start` | the process serves | `version`, `pid`, `config_sha256`, `services` |
//! | `stop` | it ends | `reason`, `us` |
//! | `reload` | a reload was asked for | `what` (`config`, `secrets`), `by` (`signal`, `watch`, `operator`, `secret`), `result` (`swapped` or `kept`), *opt* `detail` (why kept), `config_sha256`, `changes` (a line each, at most 16) |
//! | `upstream_credential` | Redis refuses the proxy's password, or takes it again | `service`, *opt* `role` (of a password of its own), `result` (`refused`, `accepted`), *opt* `detail` |
//! | `drain_begin` | nothing new is accepted | `reason`, `connections`, `deadline_us` |
//! | `drain_end` | all connections are gone | `drained`, `aborted`, `us` |
//! | `refused` | no TLS byte was sent | `service`, `src`, *opt* `via`, `listener`, `reason`, *opt* `detail` |
//! | `handshake_failure` | no peer with a role came of it | `service`, `src`, *opt* `via`, `reason`, `detail`, *opt* `hint`, `unverified` (names nobody has proved) |
//! | `accept_error` | `accept` failed | `listener`, `reason`, `detail` |
//! | `upstream_switch` | new connections go to another Redis | `service`, `from`, `to`, `reason` (what the last look at the first found) |
//! | `sink_recovered` | an output is written again | `output`, `reason`, `us` |
//! | `gap` | an output with `on_full = "drop"` has room again | `output`, `dropped` (how many records were dropped), `first_seq` (the number of the first of them; the line's own `seq` is that of the last) |
//!
//! # Checkpoints
//!
//! An output with `checkpoint` has lines of its own among the others, which make it provable (see [`chain`]). They belong
//! to no pen, so they have neither `w` nor `seq`, and they are the only lines that begin `{"v":1,"event":"checkpoint",`.
//!
//! | field | type | meaning |
//! |---|---|---|
//! | `v` `event` `ts` | | as above, in this order; `event` is `checkpoint` |
//! | `output` | string | the output's name |
//! | `chain` | string | the chain, 16 hexadecimal digits that no other chain has |
//! | `n` | number | the checkpoint's number in its chain; the first is 1, and there are no holes |
//! | `reason` | string | `start` (first of a chain), `resume` (first after a restart), `interval`, `rotate` and `reopen` (last of a file), `open` (first of the next file), `stop` (the process ends) |
//! | `unproven_bytes` | number *opt* | `start`: bytes that the file held before, left out where that cannot be known. `resume`: bytes that stood behind the last checkpoint when the process started: they were written without one |
//! | `unproven_lines` `torn` | *opt* | `resume`: as many lines, and true if the last of them was torn |
//! | `after_chain` `after_n` `after_sha256` `why` | *opt* | `start`: the last checkpoint that was known of another chain, and why that one could not go on |
//! | `bytes` | number | bytes from the beginning of the checkpoint before this one to the beginning of this line |
//! | `lines` | number | ends of lines behind the checkpoint before this one |
//! | `pens` | array *opt* | the pens that have moved since they were last told: `w`; `seq`, up to which all is written, `filtered` or `dropped`; and how many of these numbers were. Counted since the process started. Left out where a file had to be changed in the middle of a block |
//! | `pens_cut` | true *opt* | not all of them fit; the next checkpoint goes on |
//! | `key` | string *opt* | the key that signs: the first 16 hexadecimal digits of the SHA-256 of the public key's DER |
//! | `sha256` | string | SHA-256 of every byte from the beginning of the checkpoint before this one up to this field's comma; of a chain's first checkpoint, of its own line up to there |
//! | `sig` | string *opt* | Ed25519 signature, in base64, of this line up to this field's comma |
//!
//! # Outputs
//!
//! Each output takes what its filter and sample let through, so its `seq` may have holes; `ravelin_audit_filtered_total`
//! counts them. Holes by dropping are each told by a `gap`. A sample never leaves out a denial or a command that has a
//! `begin`.
//!
//! With `arguments = "none"` there is no `keys` (nor what belongs to it).
//!
//! With `shape = "compact"` the lines `command`, `begin`, `upstream_command`, `ban`, `alarm`, `notice` and `connection_close` have of a
//! connection's fields only `conn`; the others stand in its `connection_open` (and in `client_auth`, which may change the
//! role). Of a `command` or `begin` is left out: `db` when it is 0, `keys` when there are none, `context` when it is `top`,
//! `verdict` when it is `allow`, `outcome` when it is `ran`.
//!
//! No field holds a credential, and none but `args` an argument's value. What names a client chooses (a key, an unknown command, a
//! certificate's name) is escaped so that it can neither end a line nor act on a terminal. Tests: `audit::tests` (every
//! line's text, and hostile bytes), `tests/audit_sink.rs` (what reaches the file).

pub mod arguments;
pub mod chain;
pub mod counters;
pub mod encode;
pub mod event;
pub mod filter;
mod former;
mod json;
pub mod keys;
pub mod outlet;
pub mod plain;
pub mod record;
pub mod schema;
mod sequence;
pub mod sink;
mod stamp;
pub mod target;
pub mod verify;
pub mod watch;

pub(crate) use json::hidden;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod outlet_tests;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod watch_tests;
