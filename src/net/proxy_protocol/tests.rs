use super::*;
use proptest::prelude::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Reads with everything there; `None` for what is not whole.
fn whole(input: &[u8]) -> Result<Option<(Header, usize)>, Fault> {
    match read(input)? {
        Read::Whole { header, len } => Ok(Some((header, len))),
        Read::More | Read::Other => Ok(None),
    }
}

fn client(src: &str, dst: &str) -> Whom {
    Whom::Client { src: at(src), dst: at(dst) }
}

fn line(text: &str) -> Result<Whom, Fault> {
    whole(text.as_bytes()).map(|found| found.expect(text).0.whom)
}

#[test]
fn lines_of_the_text_are_read_as_it_says() {
    let found = line("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    assert_eq!(found, Ok(client("192.168.0.1:56324", "192.168.0.11:443")));
    let longest =
        "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    let all = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    assert_eq!(line(longest), Ok(client(all, all)));
    assert_eq!(line("PROXY TCP6 ::1 FD00::2 0 1\r\n"), Ok(client("[::1]:0", "[fd00::2]:1")));
    assert_eq!(line("PROXY UNKNOWN\r\n"), Ok(Whom::Proxy));
    let longest = format!("PROXY UNKNOWN {}\r\n", "f".repeat(LINE_MAX - 16));
    assert_eq!((longest.len(), line(&longest)), (LINE_MAX, Ok(Whom::Proxy)), "the worst line of the text");
}

#[test]
fn whatever_a_line_has_too_much_or_too_little_is_a_fault() {
    for text in [
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n",
        "PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n",
        "PROXY TCP4 192.168.0.1\t192.168.0.11 56324 443\r\n",
        "PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n",
        "PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n",
        "PROXY TCP4 ::1 ::2 56324 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 00 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 +1 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n",
        "PROXY TCP4 192.168.0.1 192.168.0.11  443\r\n",
        "PROXY TCP6 ::ffff:10.0.0.1 ::1 1 1\r\n",
        "PROXY TCP6 1::2::3 ::1 1 1\r\n",
        "PROXY TCP6 ::1%eth0 ::1 1 1\r\n",
        "PROXY TCP6 [::1] ::1 1 1\r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 \u{e4} 192.168.0.11 1 1\r\n",
    ] {
        assert_eq!(line(text), Err(Fault::Address), "{text:?}");
    }
    for text in ["PROXY \r\n", "PROXY TCP5 1\r\n", "PROXY tcp4 1\r\n", "PROXY UNKNOWNX\r\n", "PROXY UDP4 1\r\n"] {
        assert_eq!(line(text), Err(Fault::Family), "{text:?}");
    }
    for text in ["PROXY UNKNOWN\n", "PROXY UNKNOWN\rX", "PROXY UNKNOWN\r\r\n", "PROXY TCP4 1.1.1.1\n2.2.2.2 1 1\r\n"] {
        assert_eq!(whole(text.as_bytes()), Err(Fault::LineEnd), "{text:?}");
    }
    let long = format!("PROXY UNKNOWN {}", "f".repeat(LINE_MAX));
    assert_eq!(whole(&long.as_bytes()[..LINE_MAX - 2]), Ok(None));
    assert_eq!(whole(&long.as_bytes()[..LINE_MAX - 1]), Err(Fault::LineTooLong), "as soon as no CRLF can come in time");
}

/// Built by hand, not by [`encode_v2`].
fn binary(command: u8, transport: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, transport]);
    bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

const V4_BODY: [u8; 12] = [10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 0x18, 0xeb];

fn tlv_of(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

#[test]
fn binary_headers_name_their_client_and_what_their_extensions_say() {
    let found = whole(&binary(0x21, 0x11, &V4_BODY)).unwrap().unwrap();
    assert_eq!((found.0.version, found.0.whom, found.1), (2, client("10.0.0.1:8080", "10.0.0.2:6379"), 28));
    let mut v6 = [[0xfd; 16], [0xfe; 16]].concat();
    v6.extend([0, 1, 0xff, 0xff]);
    let found = whole(&binary(0x21, 0x21, &v6)).unwrap().unwrap();
    let (src, dst) = ("[fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:1", "[fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe]:65535");
    assert_eq!((found.0.whom, found.1), (client(src, dst), 52));

    let ssl = [&[0x07, 0, 0, 0, 0][..], &tlv_of(0x21, b"TLSv1.3"), &tlv_of(0x22, b"billing")].concat();
    let long = [b'u'; VALUE_MAX + 1];
    let extensions = [
        tlv_of(0x01, b"redis"),
        tlv_of(0x02, b"cache.example"),
        tlv_of(0x04, b"\0\0\0"),
        tlv_of(0x05, b"\x01\x02"),
        tlv_of(0x20, &ssl),
        tlv_of(0x30, b"blue"),
        tlv_of(0xea, b"\x01vpce-1\n"),
        tlv_of(0x02, &long),
        tlv_of(0x02, b""),
    ];
    let found = whole(&binary(0x21, 0x11, &[&V4_BODY[..], &extensions.concat()].concat())).unwrap().unwrap();
    let cut = format!("authority={} (cut, 129 bytes)", "u".repeat(VALUE_MAX));
    assert_eq!(
        found.0.tlvs.words(),
        [
            "alpn=redis",
            "authority=cache.example",
            "unique_id=hex:0102",
            "tls=yes",
            "tls_client_certificate=verified",
            "tls_version=TLSv1.3",
            "tls_cn=billing",
            "netns=blue",
            "tlv_ea=hex:01767063652d310a",
            &cut,
            "authority=",
        ]
    );
    let many = tlv_of(0x01, b"x").repeat(500);
    let found = whole(&binary(0x21, 0x11, &[&V4_BODY[..], &many].concat())).unwrap().unwrap();
    assert_eq!(found.0.tlvs.words().len(), 16, "more are passed over");
    for (bits, verify, expected) in [(0x07, 1, "not-verified"), (0x01, 0, "none"), (0x05, 0, "verified")] {
        let ssl = tlv_of(0x20, &[bits, 0, 0, 0, verify]);
        let found = whole(&binary(0x21, 0x11, &[&V4_BODY[..], &ssl].concat())).unwrap().unwrap();
        assert_eq!(found.0.tlvs.words()[1], format!("tls_client_certificate={expected}"));
    }
}

#[test]
fn who_names_nobody_is_the_proxy_itself_whatever_else_the_header_says() {
    for (command, transport, body) in [
        (0x20, 0x00, &b""[..]),
        (0x20, 0x11, &V4_BODY),
        (0x20, 0x31, b"short"),
        (0x20, 0xff, b"\x03\0\x04....\xff"),
        (0x21, 0x00, b""),
        (0x21, 0x01, b"anything"),
    ] {
        let found = whole(&binary(command, transport, body)).unwrap().unwrap();
        assert_eq!(found, (Header { version: 2, whom: Whom::Proxy, tlvs: Tlvs::default() }, 16 + body.len()));
    }
}

#[test]
fn a_binary_header_that_is_wrong_is_a_fault_and_says_what_is() {
    let wrong = |bytes: &[u8]| whole(bytes).unwrap_err();
    for command in [0x00, 0x11, 0x22, 0x2f, 0x31] {
        assert_eq!(wrong(&binary(command, 0x11, &V4_BODY)), Fault::Command(command));
    }
    for transport in [0x03, 0x10, 0x12, 0x13, 0x20, 0x22, 0x31, 0x32, 0x41, 0xff] {
        assert_eq!(wrong(&binary(0x21, transport, &[0; 300])), Fault::Transport(transport));
    }
    assert_eq!(wrong(&binary(0x21, 0x11, &V4_BODY[..11])), Fault::Short);
    assert_eq!(wrong(&binary(0x21, 0x21, &[0; 35])), Fault::Short);
    assert_eq!(wrong(&binary(0x20, 0x00, &[0; HEADER_MAX - 15])[..16]), Fault::HeaderTooLong(HEADER_MAX + 1));
    for extensions in
        [&b"\x01"[..], b"\x01\0", b"\x01\0\x01", b"\x02\xff\xff", b"\x20\0\x04\0\0\0\0", b"\x20\0\x06\x01\0\0\0\0\x21"]
    {
        assert_eq!(wrong(&binary(0x21, 0x11, &[&V4_BODY[..], extensions].concat())), Fault::Tlv, "{extensions:?}");
    }
}

#[test]
fn a_checksum_is_verified_wherever_it_stands_and_there_is_one_at_most() {
    let before = tlv_of(0x02, b"a");
    let behind = tlv_of(0x05, b"id");
    for (front, back) in [(&before[..], &behind[..]), (b"", &behind), (&before, b"")] {
        let of = |checksum: u32| {
            let checksum = tlv_of(0x03, &checksum.to_be_bytes());
            binary(0x21, 0x11, &[&V4_BODY[..], front, &checksum, back].concat())
        };
        let right = crc::crc32c(of(0).into_iter());
        assert!(whole(&of(right)).unwrap().is_some());
        for bit in 0..32 {
            assert_eq!(whole(&of(right ^ (1 << bit))), Err(Fault::Checksum));
        }
        // And of every bit that it covers; what is no header any more has other faults.
        let good = of(right);
        for bit in (16 + V4_BODY.len()) * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let same = whole(&bad)
                .ok()
                .flatten()
                .is_some_and(|(header, _)| header.tlvs == whole(&good).unwrap().unwrap().0.tlvs);
            assert!(!same, "bit {bit}");
        }
        let twice = [&V4_BODY[..], &tlv_of(0x03, &[0; 4]), &tlv_of(0x03, &[0; 4])].concat();
        assert_eq!(whole(&binary(0x21, 0x11, &twice)), Err(Fault::Checksum));
        assert_eq!(whole(&binary(0x21, 0x11, &[&V4_BODY[..], &tlv_of(0x03, &[0; 3])].concat())), Err(Fault::Checksum));
    }
}

#[test]
fn what_is_sent_is_read_back() {
    for (src, dst, id) in [
        ("10.0.0.1:5000", "10.0.0.2:6380", "9f3c-17"),
        ("[fd00::1]:5000", "[fd00::2]:6380", ""),
        ("10.0.0.1:5000", "[fd00::2]:6380", "x"),
        ("[::ffff:10.0.0.1]:5000", "10.0.0.2:6380", "x"),
    ] {
        let bytes = encode_v2(at(src), at(dst), id.as_bytes());
        let (header, len) = whole(&bytes).unwrap().unwrap();
        assert_eq!(len, bytes.len());
        let Whom::Client { src: from, dst: to } = header.whom else { panic!("{src}") };
        assert_eq!((from.ip().to_canonical(), from.port()), (at(src).ip().to_canonical(), at(src).port()));
        assert_eq!((to.ip().to_canonical(), to.port()), (at(dst).ip().to_canonical(), at(dst).port()));
        let expected: Vec<String> = if id.is_empty() { vec![] } else { vec![format!("unique_id={id}")] };
        assert_eq!(header.tlvs.words(), expected);
        let mut bad = bytes.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(whole(&bad), Err(Fault::Checksum), "it carries a checksum");
    }
    assert_eq!(whole(&local()).unwrap().unwrap().0.whom, Whom::Proxy);
}

#[test]
fn what_begins_otherwise_is_told_at_the_first_byte_that_does() {
    let hello = [22, 3, 1, 2, 0];
    assert_eq!(read(&hello[..1]), Ok(Read::Other));
    assert_eq!(read(b""), Ok(Read::More));
    for other in ["PING\r\n", "PROXX", "PROXY\r\n", "proxy ", "\r\n\r\n\r", "\r\n\r\n\0\r\nQUIT\r", "*1\r\n", "GET / "]
    {
        let first = (1..=other.len()).find(|len| read(&other.as_bytes()[..*len]) == Ok(Read::Other)).unwrap();
        assert!((1..first).all(|len| read(&other.as_bytes()[..len]) == Ok(Read::More)), "{other:?}");
    }
}

/// Whole headers of both versions, right and wrong ones.
fn samples() -> impl Strategy<Value = Vec<u8>> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..80);
    let tlvs = proptest::collection::vec((0_u8..0x40, bytes()), 0..6);
    let v4 = (any::<[u8; 12]>(), tlvs.clone()).prop_map(|(body, tlvs)| {
        let tlvs: Vec<u8> = tlvs.iter().flat_map(|(kind, value)| tlv_of(*kind, value)).collect();
        binary(0x21, 0x11, &[&body[..], &tlvs].concat())
    });
    let sent = (any::<(u32, u16, u128, u16)>(), bytes()).prop_map(|((a, b, c, d), id)| {
        encode_v2(
            SocketAddr::new(std::net::Ipv4Addr::from(a).into(), b),
            SocketAddr::new(std::net::Ipv6Addr::from(c).into(), d),
            &id,
        )
    });
    let wild =
        (any::<u8>(), any::<u8>(), bytes()).prop_map(|(command, transport, body)| binary(command, transport, &body));
    let text = "PROXY (TCP4|TCP6|UNKNOWN|X)( [0-9a-f:.]{1,12}){0,5}(\r\n|\n|\r)";
    prop_oneof![
        v4,
        sent,
        wild,
        text.prop_map(String::into_bytes),
        any::<(u32, u32, u16, u16)>().prop_map(|(a, b, c, d)| {
            let (a, b) = (std::net::Ipv4Addr::from(a), std::net::Ipv4Addr::from(b));
            format!("PROXY TCP4 {a} {b} {c} {d}\r\n").into_bytes()
        })
    ]
}

proptest! {
    /// Once something is said it stays said, however many bytes follow; until then every prefix says `More`.
    #[test]
    fn every_prefix_of_whatever_bytes_agrees_with_the_whole(header in samples(), behind in proptest::collection::vec(any::<u8>(), 0..20)) {
        let input = [&header[..], &behind].concat();
        let all = read(&input);
        let mut said = None;
        for end in 0..=input.len() {
            let now = read(&input[..end]);
            if let Some(said) = &said {
                prop_assert_eq!(&now, said, "after {} bytes", end);
            } else if now != Ok(Read::More) {
                said = Some(now);
            }
        }
        prop_assert_eq!(said.unwrap_or(Ok(Read::More)), all.clone());
        if let Ok(Read::Whole { len, header: found }) = all {
            prop_assert!(len <= input.len() && len <= HEADER_MAX);
            prop_assert!(found.tlvs.words().iter().all(|word| word.bytes().all(|byte| matches!(byte, b' '..=b'~')) && word.len() < 350));
        }
    }

    #[test]
    fn no_bytes_at_all_make_it_wait_for_more_than_a_header(input in proptest::collection::vec(any::<u8>(), HEADER_MAX..HEADER_MAX + 20)) {
        let long = [&SIGNATURE[..], &input].concat();
        prop_assert_ne!(read(&long), Ok(Read::More));
        prop_assert_ne!(read(&[b"PROXY ", &input[..]].concat()), Ok(Read::More));
    }
}
