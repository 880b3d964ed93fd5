//! The file as typed. The doc comments are the documentation of the keys: unit, default and bounds of each.

use super::decode::{Hidden, Item, NumberOrText, TextOr, tables};

/// A list of values.
type List<T> = Vec<Item<T>>;

tables! {
    /// The whole file.
    RawConfig {
        /// One or more: each its own door and its own Redis.
        service: List<RawService>,
        /// Near ends of tunnels: plain text in from this host, TLS out to a Ravelin, a stunnel or any Redis with TLS (see
        /// deploy/docs/tunnel.md). A file may have tunnels alone.
        tunnel: List<RawTunnel>,
        /// Certificates, for every service without a table of its own.
        tls: RawTls,
        /// Which addresses may connect, for every service without a table of its own.
        admission: RawAdmission,
        /// What nobody may say, for every service without a table of its own.
        policy: RawPolicy,
        /// Who may come in, and what each may say. A certificate that matches no role is refused.
        role: List<RawRole>,
        /// Where a client's own user and password are looked up, for every service without a table of its own.
        credentials: RawCredentials,
        /// How long those are sent away who fail to authenticate.
        bans: RawBans,
        /// Bounds on everything.
        limits: RawLimits,
        /// Where records of commands and connections go, and what they show.
        audit: RawAudit,
        /// The endpoint for metrics and health checks. Left out: there is none.
        admin: RawAdmin,
        /// The operational log, on standard error.
        log: RawLog,
        /// When what has changed in the configuration and in the files that it names is put in force.
        reload: RawReload,
    }
    planned []

    /// When changes are put in force.
    RawReload {
        /// How often the configuration and every file that it names are looked at, "250ms" to "1h"; "off": only SIGHUP and
        /// `ravelin reload` ask. Contents are compared, and what is new is put in force once it was found twice. Default "5s".
        watch: String,
    }
    planned []

    /// One door and the Redis behind it.
    RawService {
        /// Its name in records and metrics: 1 to 64 of `a-z A-Z 0-9 . _ -`. Required, unique.
        name: String,
        /// Its listening sockets, at least one.
        listen: List<RawListen>,
        /// The Redis behind it. Required.
        upstream: RawUpstream,
        /// Replaces the top-level table of this name, whole.
        tls: RawTls,
        /// Replaces the top-level table of this name, whole.
        admission: RawAdmission,
        /// Replaces the top-level table of this name, whole.
        policy: RawPolicy,
        /// Replaces the top-level table of this name, whole.
        credentials: RawCredentials,
    }
    planned []

    /// The near end of a tunnel.
    RawTunnel {
        /// Its name in records and metrics, as a service's. Required, unique among both.
        name: String,
        /// Where to listen, in plain text: a loopback address with a port, "127.0.0.1:6379", or a Unix socket,
        /// "unix:/run/ravelin/cache.sock". Whoever can connect to it is at the other end of the tunnel; an address that others
        /// can reach is refused. Required.
        listen: String,
        /// A Unix socket's permission bits, octal: "0600" (default), "0660" with a group, "0666" for every user of this host.
        mode: String,
        /// The group that a Unix socket belongs to, by name (in /etc/group) or number. Default: the process' own.
        group: NumberOrText,
        /// The other end, a name or address with port: "redis.example.com:6380". Required.
        connect: String,
        /// Where else it may be, as `service.N.upstream.alternatives`. Default: none.
        alternatives: List<String>,
        /// How the other end is known, and the certificate that is shown to it: the keys of `upstream.tls`. Required.
        tls: RawUpstreamTls,
        /// The user for AUTH at the other end, where that is a Redis that asks for a password.
        username: String,
        /// The file with that password; this or another source of it as in `service.N.upstream`. Left out: the other end asks
        /// for none.
        password_file: String,
        /// In its place: the name of a systemd credential.
        password_credential: String,
        /// In its place: the name of an environment variable.
        password_env: String,
        /// In its place: a program that prints the password.
        password_command: RawPasswordCommand,
        /// The file of the password that will come next.
        next_password_file: String,
        /// What becomes of a client's own AUTH: "refuse" (default) or "ignore".
        client_auth: String,
        /// Time for connecting, and again for the answer to AUTH. Default: `limits.upstream_connect_timeout`.
        connect_timeout: String,
        /// Whether the other end is looked at, which has a record there each time: as `service.N.upstream.health`.
        health: RawUpstreamHealth,
        /// How long to wait between looks at an end that is not up: as `service.N.upstream.backoff`.
        backoff: RawUpstreamBackoff,
        /// How many may be on their way to it at once: as `service.N.upstream.connects`.
        connects: RawUpstreamConnects,
        /// What nobody may say here already. Default: everything may be said.
        policy: RawPolicy,
    }
    planned []

    /// A listening socket.
    RawListen {
        /// IP address and port: `0.0.0.0:6380`, `[::]:6380`. Port 0 lets the kernel choose. Required.
        address: String,
        /// Whether plain words on a line (`GET key`, without quotes) are commands too. Default false; the exact line
        /// `PING` is always answered.
        inline: bool,
        /// Whether a second process of the same user may listen here too (`SO_REUSEPORT`), to take over while the first
        /// drains; both must say so. Default false: an address in use is then an error.
        reuse_port: bool,
        /// Proxies before this listener that say for whom they speak (PROXY protocol, versions 1 and 2): { trusted =
        /// ["10.0.9.0/24"] }. A connection from one of these must begin with such a header, and the address it names is
        /// what admission, bans, caps and records go by; from anybody else one is an error.
        proxy_protocol: RawProxyProtocol,
    }
    planned []

    /// Proxies that say for whom they speak.
    RawProxyProtocol {
        /// The proxies' own networks and addresses. They need not be in `admission.allow`, unless they connect for themselves
        /// (health checks with TLS). Required.
        trusted: List<String>,
        /// Time for the header, from accept, "10ms" to "1m"; `limits.handshake_timeout` goes on beside it. Default "2s".
        timeout: String,
    }
    planned []

    /// The Redis behind a service.
    RawUpstream {
        /// "unix:/path/to/redis.sock", or a loopback address with port: "127.0.0.1:6379". With `tls` any address or name
        /// with a port: "redis.example.com:6380"; without it that would carry commands and password over a network in plain
        /// text, and is refused. Required.
        address: String,
        /// Where else this Redis may be, each written as `address`, at most 7: new connections go to the first of all that is
        /// up, and back to an earlier one once it is up again (see deploy/docs/upstream.md). Default: none.
        alternatives: List<String>,
        /// TLS on the way to Redis (see deploy/docs/upstream.md). Left out: plain text, on this host alone.
        tls: RawUpstreamTls,
        /// The user for AUTH (Redis 6 and later). Left out: AUTH with the password alone.
        username: String,
        /// The file with the password, read as bytes when the configuration is loaded; one newline at its end is not
        /// part of it. 1 byte to 64 KiB, not readable by everybody. This or another source is required unless `auth = "none"`.
        password_file: String,
        /// In its place: the name of a systemd credential (`LoadCredential=`), a file in $CREDENTIALS_DIRECTORY.
        password_credential: String,
        /// In its place: the name of an environment variable. It is fixed for the life of the process, and others may read it.
        password_env: String,
        /// In its place: a program that prints the password, such as the client of a vault.
        password_command: RawPasswordCommand,
        /// The file of the password that will come next, tried where Redis refuses the other. It need not be there.
        next_password_file: String,
        /// "none": Redis asks for no password. It must be said aloud, because behind a proxy on its own host Redis'
        /// protected mode protects nobody.
        auth: String,
        /// What becomes of a client's own AUTH and HELLO AUTH, which never reach Redis: "refuse" (default) answers an
        /// error, "ignore" answers OK, "verify" looks user and password up in `credentials` and takes no other command before
        /// they were right, "select" looks them up and gives the client the role of that user's.
        client_auth: String,
        /// Whether each upstream connection is named after its client, so that CLIENT LIST shows whose it is.
        /// Default true.
        set_name: bool,
        /// Time for connecting, and again for the answer to AUTH. Default: `limits.upstream_connect_timeout`.
        connect_timeout: String,
        /// Redis' user, by name ("redis", as /etc/passwd has it) or number: who must own the Unix socket, checked on the
        /// file and on the process behind it. Default: root, or the user the proxy runs as.
        socket_owner: NumberOrText,
        /// Permission bits that the Unix socket may have at most, octal: "0770" (default). More would let local users
        /// reach Redis around the proxy.
        socket_mode_max: String,
        /// "none" (default), or "v2": each connection begins with a header of the PROXY protocol that names the client, for a
        /// proxy in front of Redis that wants one (`accept-proxy` of HAProxy). Redis itself does not take it.
        proxy_protocol: String,
        /// Whether Redis is looked at, and what is made of it: readiness, metrics, and which address is used.
        health: RawUpstreamHealth,
        /// How long to wait between looks at a Redis that is not up. Clients that come meanwhile wait for the next look.
        backoff: RawUpstreamBackoff,
        /// How many may be on their way to Redis, for when it comes back and all clients with it.
        connects: RawUpstreamConnects,
    }
    planned ["mode"]

    /// Looks at Redis: a connection, AUTH and PING.
    RawUpstreamHealth {
        /// Between two looks, "100ms" to "1h", "0s" for none while it is up; then one that is down is only connected to.
        /// Default "5s".
        interval: String,
        /// For connecting, TLS and the answers, together, "10ms" to "1m". Default "2s".
        timeout: String,
        /// Looks without an answer in a row, 1 to 100, that make it down. A refused connection does at once. Default 3.
        failures: i64,
        /// Good looks in a row, 1 to 100, that make it up again. Default 2.
        successes: i64,
    }
    planned []

    /// Waits after failures: doubled each time, of which a random part of at least the half.
    RawUpstreamBackoff {
        /// After the first, "1ms" to "1m". Default "100ms".
        initial: String,
        /// At most, "1ms" to "10m", at least `initial`. Default "2s".
        max: String,
    }
    planned []

    /// Bounds on connecting.
    RawUpstreamConnects {
        /// Connections at once that Redis has not answered yet, 1 to 100000. Default 128.
        at_once: i64,
        /// Connections begun in a second, 1 to 100000, 0 (default) for no bound.
        per_second: i64,
        /// Clients that may wait for their turn, within `connect_timeout`, 0 to 1000000. One more is told that Redis is
        /// unavailable. Default 4096.
        waiting: i64,
    }
    planned []

    /// TLS on the way to Redis: how its certificate is known, and what it is shown.
    RawUpstreamTls {
        /// The CAs, PEM, that may have issued Redis' certificate, whose name must be the one in `address` or `server_name`.
        /// One of `ca`, `system_roots` and `pin` is required.
        ca: String,
        /// Whether the CAs that the system trusts are those (`SSL_CERT_FILE`, or the package ca-certificates). Default false.
        system_roots: bool,
        /// Certificates that it may show, each by its SHA-256 (`openssl x509 -noout -fingerprint -sha256`) or by that of its
        /// key, `sha256//` and base64 (as curl's `--pinnedpubkey`). Beside `ca` or `system_roots` both must hold. Alone, for a
        /// self-signed certificate, its name counts only with `server_name`. Default: none.
        pin: List<String>,
        /// The name in its certificate, which is also sent (SNI). Default: the name or address in `address`. Required for a
        /// Unix socket, unless only `pin` counts.
        server_name: String,
        /// The client certificate that is shown to it, PEM, with its chain. Default: none.
        cert: String,
        /// Its private key, PEM. Required with `cert`.
        key: String,
        /// Certificate revocation lists about its certificate and those above, PEM or DER: files, and folders, of which every
        /// file is read. Default: none.
        crl: List<String>,
        /// A list past its next update: "refuse" (default) believes no server of its issuer, "accept" goes on with it and warns.
        crl_expired: String,
        /// A certificate in the chain whose issuer has no list, where any is configured: "refuse" (default) or "accept".
        crl_missing: String,
        /// "1.2" (default) or "1.3".
        min_version: String,
    }
    planned []

    /// A program that prints a password.
    RawPasswordCommand {
        /// The program, an absolute path, and its arguments. It is told nothing, its environment is empty but for PATH, and it
        /// prints the password, to which one newline at its end does not belong, and ends with status 0. Required.
        run: List<String>,
        /// How long what it printed is good for, "1s" to "30d". It is run again before that. Default "1h".
        ttl: String,
        /// Time for it, "100ms" to "1m". Default "10s".
        timeout: String,
    }
    planned []

    /// Certificates.
    RawTls {
        /// The server's certificate chain, PEM, the leaf first. May hold the key as well. Required.
        cert: String,
        /// Its private key, PEM (PKCS#8, PKCS#1 or SEC1). Required.
        key: String,
        /// The CAs that client certificates must chain to, PEM. Required.
        client_ca: String,
        /// "required" (default), or "none": a client need not show a certificate, and one without is let in as a role whose
        /// match is `{ anonymous = true }`, which there must be. A certificate that is shown is checked all the same, and
        /// must match another role.
        client_auth: String,
        /// An OCSP response for `cert`, DER, stapled while it is in date. Default: none.
        ocsp: String,
        /// Further certificates, for clients that ask for their names (SNI). Default: none.
        certificates: List<RawCertificate>,
        /// A client that asks for a name no certificate has is shown `cert` ("default", the default), or refused ("strict").
        /// One that asks for none is shown `cert`.
        sni: String,
        /// Certificate revocation lists, PEM or DER: files, and folders, of which every file is read. Default: none.
        crl: List<String>,
        /// A list past its next update: "refuse" (default) refuses all clients of its issuer, "accept" goes on with it and warns.
        crl_expired: String,
        /// A certificate in the chain whose issuer has no list, where any is configured: "refuse" (default) or "accept".
        crl_missing: String,
        /// Serial numbers that are revoked whatever a list says, hexadecimal, of clients and of CAs: "4f:a0:01", or
        /// `{ serial = "4fa001", issuer = "CN=Issuing CA" }` for one issuer's alone. At most 10000. Default: none.
        revoked_serials: List<TextOr<RawRevoked>>,
        /// "1.2" (default) or "1.3".
        min_version: String,
        /// Cipher suites by their IANA names, best first; the server's order counts. Default: all that rustls has.
        suites: List<String>,
        /// Groups of the key exchange that may be agreed on, by their IANA names; among them the client's order counts.
        /// Default: "X25519MLKEM768", "x25519", "secp256r1", "secp384r1".
        groups: List<String>,
        /// How long before its end a certificate, list or response is warned of (lists and responses not before the last quarter
        /// of their time), "1h" to "365d". Default "14d".
        expiry_warning: String,
    }
    planned []

    /// A further certificate.
    RawCertificate {
        /// Its chain, PEM, the leaf first. Required.
        cert: String,
        /// Its private key, PEM. Required.
        key: String,
        /// An OCSP response for it, DER. Default: none.
        ocsp: String,
        /// The names it is shown for, "*." for one label in front. Default: the DNS names in it.
        names: List<String>,
    }
    planned []

    /// A revoked certificate.
    RawRevoked {
        /// Its serial number, hexadecimal. Required.
        serial: String,
        /// Its issuer's distinguished name as RFC 4514 writes it. Default: any issuer.
        issuer: String,
    }
    planned []

    /// Which addresses may connect, decided before a single TLS byte.
    RawAdmission {
        /// Networks ("10.0.0.0/8", "fd00::/8") and addresses that may connect. Default: none, and nobody can.
        allow: List<String>,
        /// Networks and addresses that may not, whatever `allow` says. Default: none.
        deny: List<String>,
        /// Most connections from one address, 0 for no cap. Default: `limits.max_connections_per_address`.
        max_per_address: i64,
    }
    planned []

    /// What nobody may say: the floor under every role.
    RawPolicy {
        /// Commands ("FLUSHALL"), subcommands ("CONFIG|SET"), categories ("@dangerous") and presets
        /// ("preset:hardened") that are denied, in any case. Default: ["preset:hardened"]; a list of your own replaces
        /// it, so name the preset again to keep it.
        deny: List<String>,
        /// Entries that are tried out: what they would deny is let through, and its record has the rule as `shadow`.
        /// Written as `deny`. Default: none.
        shadow: List<String>,
        /// What becomes of scripts where a role does not say: as `role.N.scripts`.
        scripts: TextOr<RawScripts>,
    }
    planned []

    /// Scripts that may be run.
    RawScripts {
        /// The file of what may be run: per line the SHA-1 of a script's body or a library's code, as `sha1sum` writes it, or
        /// `function NAME` for FCALL. At most 1 MiB; read when the configuration is loaded.
        pinned: String,
    }
    planned []

    /// Parameters of the server, by name or pattern (`*`, `?`).
    RawParameters {
        /// What CONFIG GET may show, each name and everything a pattern reaches. Passwords are never shown. Default:
        /// everything else.
        get: List<String>,
        /// What CONFIG SET may change. Default: whatever the denylist leaves open.
        set: List<String>,
    }
    planned []

    /// What an identity may say.
    RawRole {
        /// Its name in records and metrics: 1 to 64 of `a-z A-Z 0-9 . _ -`. Required, unique.
        name: String,
        /// Whose role it is. Within braces every condition must hold; one pair of braces that holds is enough.
        /// Required; [] for a role that only a password gives (`client_auth = "select"`).
        r#match: List<RawMatch>,
        /// The services it is a role of. Default: all.
        services: List<String>,
        /// Networks and addresses its peers come from, besides what `admission` says. Default: anywhere.
        from: List<String>,
        /// What it may not say besides the floor, written as in `policy.deny`. Default: nothing.
        deny: List<String>,
        /// Entries that are tried out, as `policy.shadow`. Default: none.
        shadow: List<String>,
        /// "enforce" (default), or "shadow": what the role's own rules would deny is let through, and its record has the
        /// rule as `shadow`. The floor is in force all the same.
        mode: String,
        /// What it may say, in Redis' ACL language: "+@read -keys ~cache:* &events:*". What the rules do not allow is
        /// denied, and whatever they allow, the floor is not. Default: everything that is not denied.
        rules: String,
        /// In the place of `rules`: those of a user of a `users.acl`, as Redis writes it.
        acl: RawAcl,
        /// Another credential for Redis than the service's, in every service of the role.
        upstream: RawRoleUpstream,
        /// What becomes of its clients' own AUTH and HELLO AUTH, as in `upstream.client_auth` of the service, whose value
        /// is the default.
        client_auth: String,
        /// The databases it may use, 0 to 2147483647, at most 1024. Its connections begin in the first. Scripts run only if
        /// `scripts` pins or allows them. Default: all, beginning in 0.
        databases: List<i64>,
        /// Bounds of its own, in place of those in `limits`.
        limits: RawRoleLimits,
        /// Scripts: "deny", "read-only" (EVAL_RO and its kin), "allow" (any: they can do what is denied), or
        /// `{ pinned = "FILE" }` for those whose SHA-1 is in the file. It stands in the place of the group `scripting` that
        /// presets have. Default: `policy.scripts`, or what the denylist says.
        scripts: TextOr<RawScripts>,
        /// Which parameters CONFIG GET and CONFIG SET may name: { get = ["maxmemory*"], set = ["maxmemory"] }. The denylist
        /// decides first.
        config: RawParameters,
        /// Whose connections CLIENT KILL may end, if the denylist leaves it open: "any" (default), or "own", the client's own
        /// by its number (CLIENT KILL ID).
        client_kill: String,
        /// The names that the server was told to know commands by (`rename-command`), under the usual ones:
        /// { CONFIG = "b840fc02" }. Better kept in `rename_file`.
        rename: Hidden,
        /// The same as a file, as redis.conf has it: "rename-command CONFIG b840fc02" a line, with the two first words or
        /// without the very first. Not readable by everybody.
        rename_file: String,
        /// Decides when several roles match a certificate: the highest wins, and a tie lets nobody in. -1000 to 1000,
        /// default 0.
        priority: i64,
    }
    planned []

    /// A role's own credential for Redis.
    RawRoleUpstream {
        /// The user for AUTH (Redis 6 and later). Left out: AUTH with the password alone.
        username: String,
        /// The file with the password, as in a service's `upstream`. This or another source is required. A reload puts another
        /// one in force for new connections.
        password_file: String,
        /// As in a service's `upstream`.
        password_credential: String,
        /// As in a service's `upstream`.
        password_env: String,
        /// As in a service's `upstream`.
        password_command: RawPasswordCommand,
        /// As in a service's `upstream`.
        next_password_file: String,
    }
    planned []

    /// Bounds of a role's own.
    RawRoleLimits {
        /// Connections of the role to one service, 1 to 1000000. Default: no cap but `limits.max_connections`.
        max_connections: i64,
        /// As `limits.max_connections_per_identity`.
        max_connections_per_identity: i64,
        /// As `limits.idle_timeout`.
        idle_timeout: String,
        /// As `limits.first_byte_timeout`.
        first_byte_timeout: String,
        /// As `limits.half_command_timeout`.
        half_command_timeout: String,
        /// How much may be said in a time, at most 16 limits: [{ commands = 1000 }, { bytes = "10MiB", of = ["@write"], over =
        /// "error" }]. A command is under each limit that is about it. Default: none.
        rate: List<RawRate>,
        /// As `limits.max_connection_age`.
        max_connection_age: String,
        /// As `limits.max_bulk`.
        max_bulk: NumberOrText,
        /// As `limits.max_words`.
        max_words: i64,
        /// As `limits.held_command`; at most `limits.memory`.
        held_command: NumberOrText,
        /// As `limits.unanswered`.
        unanswered: NumberOrText,
    }
    planned []

    /// A limit in time: `commands` or `bytes`.
    RawRate {
        /// Commands a second, 1 to 10000000.
        commands: i64,
        /// Bytes of commands and replies a second, "1KiB" to "64GiB". A command is let through while there is room for its own
        /// bytes; its reply's are charged when they are known.
        bytes: NumberOrText,
        /// For how long what is not used is kept, "10ms" to "1h": so much more may be said at once. Default "1s".
        burst: String,
        /// The commands it is about, as in `policy.deny`: ["SET", "@write", "CONFIG|GET"]. Default: all.
        of: List<String>,
        /// "delay" (default): the client is not read until there is room; or "error": the command is answered `-ERR rate limit
        /// reached, try again later`. MULTI, EXEC and DISCARD are delayed in any case.
        over: String,
        /// "role" (default): all connections of the role to the service together; or "connection": each by itself.
        per: String,
    }
    planned []

    /// Where a client's own user and password are looked up: in a file, or by a program.
    RawCredentials {
        /// The file of users: lines of a name and `#` with the SHA-256 of a password, as Redis' users.acl has them (see
        /// deploy/docs/roles.md). Not readable by everybody, at most 1 MiB.
        users_file: String,
        /// The program that is asked, an absolute path, and its arguments. User and password come on its standard input; it
        /// says `allow`, `allow ROLE` or `deny` (see deploy/docs/roles.md).
        command: List<String>,
        /// Time for an answer of the program, waiting for its turn included, "100ms" to "1m". Default "5s".
        timeout: String,
        /// Most of the programs at once, 1 to 64. Default 4.
        processes: i64,
        /// How long a success is remembered, "1s" to "1h", "0s" for not at all. Default "30s".
        cache: String,
    }
    planned []

    /// How long those are sent away who fail to authenticate, by `client_auth` "verify" or "select".
    RawBans {
        /// The failure that begins the first ban of an address and of a certificate, 1 to 1000, 0 for no bans. Default 5.
        after: i64,
        /// The first ban, "1s" to "1d"; each further failure doubles it. Default "30s".
        first: String,
        /// The longest ban, and how long a failure is remembered, "1s" to "30d". Default "1h".
        max: String,
    }
    planned []

    /// A user of a `users.acl`.
    RawAcl {
        /// The file, at most 1 MiB, not readable by everybody: it may hold passwords. They are not read. Required.
        file: String,
        /// The user's name. One that is `off` may say nothing. Required.
        user: String,
    }
    planned []

    /// Conditions on a certificate. `*` stands for any run of characters (in a URI, of characters but `/`), `**` for any
    /// run; upper and lower case differ, except in DNS names.
    RawMatch {
        /// A URI subject alternative name, such as a SPIFFE id: "spiffe://prod/ns/billing/sa/*".
        uri: String,
        /// A DNS subject alternative name.
        dns: String,
        /// The subject's common name.
        cn: String,
        /// One of the subject's organisational units.
        ou: String,
        /// One of the subject's organisations.
        o: String,
        /// An email subject alternative name.
        email: String,
        /// An IP subject alternative name: an address or a network.
        ip: String,
        /// The SHA-256 fingerprint of the certificate, 64 hexadecimal digits, with or without colons.
        sha256: String,
        /// The SHA-256 fingerprint of its public key (SubjectPublicKeyInfo), likewise: it stays when a certificate is renewed
        /// with its key.
        spki_sha256: String,
        /// The serial number, hexadecimal, with or without colons. It is one of its issuer's: give `issuer` too.
        serial: String,
        /// The issuer's distinguished name as RFC 4514 writes it: "CN=Issuing CA 1,O=Example", what `openssl x509 -noout -issuer -nameopt RFC2253` prints.
        issuer: String,
        /// `true`: no certificate was shown (`tls.client_auth = "none"`). It stands alone.
        anonymous: bool,
    }
    planned []

    /// Bounds. Durations are written "250ms", "5s", "2m", "1h", "7d"; sizes 16384, "64KiB", "512MiB", "1GiB".
    RawLimits {
        /// Connections over all services, 1 to 1000000. Default 10000.
        max_connections: i64,
        /// Connections from one address to one service, 0 for no cap, up to 1000000. Default 1024.
        max_connections_per_address: i64,
        /// Connections of one identity (as records name it) in one role to one service, 0 for no cap, up to 1000000.
        /// Default 0.
        max_connections_per_identity: i64,
        /// How often one address (an IPv6 one for its /64) may connect: { rate = 50, burst = 200 }. Default: however often it
        /// likes.
        accepts_per_address: RawKnocks,
        /// How often one address may begin a TLS handshake, likewise: { rate = 20, burst = 100 }.
        handshakes_per_address: RawKnocks,
        /// TLS handshakes that may be under way at once, 1 to 100000; one address has at most half of them. Default 512.
        handshakes: i64,
        /// Connections that may wait for one of these, 0 to 1000000; the address with the fewest is next. Default 4096.
        handshake_queue: i64,
        /// From accept to an authenticated client, "100ms" to "5m". Default "5s".
        handshake_timeout: String,
        /// From the handshake (or RESET) to the client's first right password, where `client_auth = "verify"`, "1s" to "1h"; a
        /// look-up that is under way may end. Default "1m".
        login_timeout: String,
        /// Without a byte from the client, "1s" to "30d", "0s" for never. Does not apply while a command blocks or a
        /// subscription or stream is live. Default "0s".
        idle_timeout: String,
        /// From when Redis is ready for it to a client's first byte, "100ms" to "1h", "0s" for never. Default "0s".
        first_byte_timeout: String,
        /// From the first byte of a command to its last, "100ms" to "1h", "0s" for never; 64 KiB more of it give it that time
        /// anew. Time in which the client is not read does not count, nor does it apply where `idle_timeout` does not.
        /// Default "1m".
        half_command_timeout: String,
        /// The age at which a connection is closed, "1s" to "365d", "0s" for never: up to a tenth earlier, so that those who came
        /// together do not leave together; between two commands, not in a transaction, and up to a tenth later for that (at
        /// least 5 seconds, at most a minute). Default "0s".
        max_connection_age: String,
        /// For connecting to Redis, and again for its answer to AUTH, "10ms" to "5m". Default "5s".
        upstream_connect_timeout: String,
        /// How long bytes for a connection that is being closed may take, "100ms" to "5m". Default "10s".
        flush_timeout: String,
        /// From SIGTERM to the end, "100ms" to "1h". Default "25s".
        drain_timeout: String,
        /// Longest word of a command, "1KiB" to "1GiB"; the same as Redis' `proto-max-bulk-len`. Default "512MiB".
        max_bulk: NumberOrText,
        /// Most words of a command, 16 to 16777216. Default 1048576.
        max_words: i64,
        /// Most bytes of one command that are held until it can be judged, "64KiB" to "1GiB". Default "16MiB".
        held_command: NumberOrText,
        /// Most bytes of such commands over all connections, at least `held_command`; and as many for what is counted by `unanswered`. Default "256MiB".
        memory: NumberOrText,
        /// Most bytes that unanswered commands and unread replies of one connection may take, "64KiB" to "4GiB".
        /// Default "64MiB".
        unanswered: NumberOrText,
        /// Backlog of each listening socket, 1 to 65535. Default 1024.
        backlog: i64,
        /// Keepalive probes on TCP sockets, to clients and to Redis.
        keepalive: RawKeepalive,
        /// `TCP_USER_TIMEOUT` on TCP sockets, "1s" to "1d", "0s" for the system's default. A client that neither
        /// acknowledges nor reads for so long is gone. Default "120s".
        tcp_user_timeout: String,
        /// Worker threads, 1 to 256, or "auto" (default): half of the processors, at least 1, at most 4, by the cgroup's
        /// quota.
        workers: NumberOrText,
    }
    planned []

    /// How often an address may come.
    RawKnocks {
        /// How many a second, 1 to 100000. Required.
        rate: i64,
        /// How many at once after a silence, 1 to 1000000. Default: as many as `rate`.
        burst: i64,
    }
    planned []

    /// Keepalive probes.
    RawKeepalive {
        /// Silence before the first probe, whole seconds, "1s" to "9h". Default "300s".
        idle: String,
        /// Between probes, whole seconds, "1s" to "9h". Default "30s".
        interval: String,
        /// Unanswered probes before the connection is given up, 1 to 127. Default 3.
        count: i64,
    }
    planned []

    /// Where records go and what they show.
    RawAudit {
        /// Where records go, 1 to 16 places: [{ stdout = {} }] (default), [{ file = { path = "/var/log/ravelin/audit.jsonl" } }], [{ syslog = {} }], [{ socket = { address = "unix:/run/collector.sock" } }].
        output: List<RawOutput>,
        /// What of a command's arguments records show: "keys" (default), "hashed" (the keys, hashed with hash_key_file), "values" (the keys, and the words of commands that audit.values names) or "none". Never a secret.
        arguments: String,
        /// A file with at least 32 random characters (openssl rand -hex 32) that nobody else can read: keys are hashed with them, HMAC-SHA-256 cut to 16 bytes.
        hash_key_file: String,
        /// In its place: the name of a systemd credential.
        hash_key_credential: String,
        /// Whose and which commands' words outputs with arguments = "values" show.
        values: RawValues,
        /// How lines look: "full" (default), or "compact": what is the same in a connection's records stands only in its connection_open, and what most commands have in common is left out.
        shape: String,
        /// Which commands wait until a begin line of theirs has reached every output that commands wait for (and its disk, with fsync = "always"): "destructive" (default: what blocks, streams, administers or destroys), or "writes" (all that can write besides).
        begin: String,
        /// Which records are written: "all" (default), "writes" (commands that can change something, and denials) or "denied".
        events: String,
        /// When records cannot be written: "stall" (default) lets commands wait; "drop" drops records, counts them exactly, and says so in a gap record.
        on_full: String,
        /// Bytes of records that each worker may hold for each output before it is full, "64KiB" to "1GiB". Default "4MiB".
        queue: NumberOrText,
        /// Whether the stream proves that nobody edits it: "off" (default), or a table: lines with a chain of SHA-256 over all that was
        /// written, which `ravelin audit verify` checks (see deploy/docs/audit.md).
        checkpoint: TextOr<RawCheckpoint>,
        /// What is worth a second look. Nothing that is not said here.
        watch: RawWatch,
    }
    planned []

    /// Lines that make an output provable.
    RawCheckpoint {
        /// How long a record waits for the next checkpoint, "1s" to "1h". Default "10s".
        every: String,
        /// Lines after which one is written before that, 100 to 1000000000. Default: no number.
        lines: i64,
        /// What signs them: a private Ed25519 key, PEM (`openssl genpkey -algorithm ed25519`), not readable by everybody. Default:
        /// no signatures, and whoever can write the file can make the chain anew.
        sign_key: String,
        /// In its place: the name of a systemd credential.
        sign_key_credential: String,
    }
    planned []

    /// Whose and which commands' words are shown. What the command table knows for a secret never is.
    RawValues {
        /// Only of these roles.
        roles: List<String>,
        /// Only of these commands, as in policy.deny: ["@write", "CONFIG|SET"].
        commands: List<String>,
        /// Most bytes of a word, 1 to 1024; what is longer is cut. At most 64 words are shown. Default 128.
        max_bytes: i64,
    }
    planned []

    /// What is worth a second look: a word in the record's `notable` or a `notice` record, and a counter.
    RawWatch {
        /// Commands that Redis took so long to answer, "1ms" to "1h"; what waits by its nature (BLPOP) is left out.
        slow: String,
        /// Commands of at least so many bytes, "1KiB" to "1GiB".
        large_request: NumberOrText,
        /// Replies of at least so many bytes, "1KiB" to "1GiB".
        large_reply: NumberOrText,
        /// true: the first time since the start (and at each worker) that an identity says a command.
        first_seen: bool,
        /// So many denials of one identity: { amount = 20, within = "10s" }.
        denial_burst: RawWithin,
        /// So many bytes to one connection: { amount = "100MiB", within = "10s" }.
        bulk_read: RawWithin,
    }
    planned []

    /// An amount within a time.
    RawWithin {
        /// How much. Required.
        amount: NumberOrText,
        /// In how long, "1s" to "1h". Default "10s".
        within: String,
    }
    planned []

    /// One place for records: one of stdout, file, syslog and socket, and what it takes of the stream. What is not said here is as the table audit says it.
    RawOutput {
        /// Standard output.
        stdout: RawStdout,
        /// A file, appended to.
        file: RawFile,
        /// Syslog messages, RFC 5424.
        syslog: RawSyslog,
        /// A Unix or TCP socket of JSON lines.
        socket: RawSocket,
        /// Its name in gap records, metrics and the log. Default: the kind, with a number from the second of a kind on ("file", "file-2").
        name: String,
        /// As audit.arguments.
        arguments: String,
        /// As audit.shape.
        shape: String,
        /// As audit.events.
        events: String,
        /// As audit.on_full.
        on_full: String,
        /// Only these records. Everything that is asked for must hold.
        filter: RawAuditFilter,
        /// As audit.checkpoint.
        checkpoint: TextOr<RawCheckpoint>,
        /// The part of the commands that is written, "0.001%" to "100%" (default). Denials, and what blocks, administers or destroys, are always written.
        sample: String,
    }
    planned []

    /// Which records an output takes. Records of the process and of failed handshakes are always taken.
    RawAuditFilter {
        /// Only connections of these roles.
        roles: List<String>,
        /// Only connections from these networks: ["10.2.0.0/16"].
        from: List<String>,
        /// Only these commands, as in policy.deny: ["SET", "CONFIG|SET", "@write"].
        commands: List<String>,
        /// Only commands with one of these verdicts: "allow", "deny", "answer".
        verdicts: List<String>,
        /// Only commands that Redis took so long to answer, "1ms" to "1h".
        slower_than: String,
    }
    planned []

    /// Standard output.
    RawStdout {}
    planned []

    /// A file. It is made if it is not there; SIGUSR1 opens it anew.
    RawFile {
        /// Where it is. Required.
        path: String,
        /// Permission bits of a file that is made, "0600" (default) to "0664".
        mode: String,
        /// The file is put aside (audit.jsonl.20261121T140503.412345Z) before it would grow beyond so many bytes, "64KiB" to "1TiB". Only whole blocks of lines are written, so one that is longer makes its file longer. Default: never.
        rotate_size: NumberOrText,
        /// The file is put aside whenever a multiple of this time has come, counted in UTC: "1h" at each full hour, "1d" at midnight; "1s" to "365d". Default: never.
        rotate_every: String,
        /// So many files that were put aside are kept, 1 to 100000; older ones are removed. Default: all.
        keep: i64,
        /// When lines are forced to the disk: "never" (default; the kernel writes back), "always" (nothing counts as written before, so commands that need a begin line wait for the disk), or a time, "10ms" to "1h": at the latest so long after they were written.
        fsync: String,
    }
    planned []

    /// Syslog messages, RFC 5424.
    RawSyslog {
        /// Where the receiver listens: "unix:/dev/log" (default), "udp:10.0.0.5:514" or "tcp:10.0.0.5:601" (octet counting, RFC 6587).
        address: String,
        /// What messages are filed under: "kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp", "ntp", "audit", "alert", "clock", "local0" (default) to "local7".
        facility: String,
        /// What messages call this host, 1 to 255 visible ASCII characters. Default: what the kernel calls it.
        hostname: String,
        /// Most bytes of a message, 480 to "64KiB". A longer one loses its longest fields and says which in message_cut. Default "2KiB" over UDP (RFC 5426), otherwise "32KiB", which is more than any has.
        max_message: NumberOrText,
    }
    planned []

    /// A Unix or TCP socket of JSON lines.
    RawSocket {
        /// Where the receiver listens: "unix:/run/collector.sock" or "10.0.0.5:5170". Required.
        address: String,
    }
    planned []

    /// The admin endpoint.
    RawAdmin {
        /// IP address and port of /metrics, /livez, /readyz and /bans, in plain HTTP: "127.0.0.1:9180". Required without `socket`.
        address: String,
        /// A Unix socket with the same pages, and with what only an operator may do: see and close connections, read the live
        /// stream, lift bans. Default: none.
        socket: RawAdminSocket,
    }
    planned []

    /// The admin socket. Whoever may write to the file may do all of it.
    RawAdminSocket {
        /// Where it is: "/run/ravelin/admin.sock". Required; at most 107 bytes.
        path: String,
        /// Its permission bits, octal: "0600" (default), "0660" with a group. Others get none.
        mode: String,
        /// The group it belongs to, by name (in /etc/group) or number. Default: the process' own.
        group: NumberOrText,
    }
    planned []

    /// The operational log.
    RawLog {
        /// "text" (default) or "json".
        format: String,
        /// The least that is logged: "error", "warn", "info" (default), "debug" or "trace".
        level: String,
    }
    planned []
}
