use super::{AuthenticateError, AuthenticatedPeer, Identity, Match, Role};
use crate::{
    moment::Moment,
    policy::{
        network::{Admission, RefuseReason},
        pattern::{Kind, Pattern},
        rules::Policy,
    },
};
use std::sync::Arc;

const NOT_AFTER: i64 = 2_000_000_000;

fn billing() -> Identity {
    Identity {
        uris: vec!["spiffe://prod/ns/billing/sa/api".into(), "urn:second".into()],
        dns: vec!["api.billing.example".into()],
        emails: vec!["Ops@example.com".into()],
        ips: vec!["10.2.0.9".parse().unwrap()],
        cn: Some("billing-api".into()),
        ou: vec!["payments".into(), "emea".into()],
        o: vec!["Example".into()],
        serial: "0a1b".into(),
        sha256: "ab".repeat(32),
        spki_sha256: "cd".repeat(32),
        issuer: "CN=Issuing CA 1,O=Example".into(),
        not_after: NOT_AFTER,
        anonymous: false,
    }
}

fn pattern(text: &str, kind: Kind) -> Option<Pattern> {
    Some(Pattern::new(text, kind).unwrap())
}

fn uri(text: &str) -> Match {
    Match { uri: pattern(text, Kind::Uri), ..Match::default() }
}

fn cn(text: &str) -> Match {
    Match { cn: pattern(text, Kind::Plain), ..Match::default() }
}

fn at(second: i64) -> Moment {
    Moment { mono_us: 0, wall_us: u64::try_from(second).unwrap() * 1_000_000 }
}

#[test]
fn every_condition_of_a_match_must_hold() {
    let rows = [
        (uri("spiffe://prod/ns/billing/sa/*"), true),
        (uri("urn:*"), true),
        (uri("spiffe://prod/*"), false),
        (Match { dns: pattern("API.*.example", Kind::Dns), ..Match::default() }, true),
        (Match { email: pattern("Ops@example.com", Kind::Plain), ..Match::default() }, true),
        (Match { email: pattern("ops@example.com", Kind::Plain), ..Match::default() }, false),
        (Match { ip: Some("10.2.0.0/16".parse().unwrap()), ..Match::default() }, true),
        (Match { ip: Some("10.3.0.0/16".parse().unwrap()), ..Match::default() }, false),
        (Match { ou: pattern("emea", Kind::Plain), ..Match::default() }, true),
        (Match { o: pattern("Example", Kind::Plain), ..Match::default() }, true),
        (Match { serial: Some("0a1b".into()), ..Match::default() }, true),
        (Match { serial: Some("a1b".into()), ..Match::default() }, true),
        (Match { serial: Some("000a1b".into()), ..Match::default() }, true),
        (Match { serial: Some("a1b0".into()), ..Match::default() }, false),
        (Match { serial: Some("0a1c".into()), ..Match::default() }, false),
        (Match { sha256: Some("ab".repeat(32)), ..Match::default() }, true),
        (Match { sha256: Some("ac".repeat(32)), ..Match::default() }, false),
        (Match { spki_sha256: Some("cd".repeat(32)), ..Match::default() }, true),
        (Match { spki_sha256: Some("ab".repeat(32)), ..Match::default() }, false),
        (Match { issuer: pattern("CN=Issuing CA *,O=Example", Kind::Plain), ..Match::default() }, true),
        (Match { issuer: pattern("CN=Issuing CA 2,O=Example", Kind::Plain), ..Match::default() }, false),
        // A serial number is one of its issuer's.
        (
            Match {
                issuer: pattern("CN=Issuing CA 1,O=Example", Kind::Plain),
                serial: Some("a1b".into()),
                ..Match::default()
            },
            true,
        ),
        (Match { issuer: pattern("CN=Other CA", Kind::Plain), serial: Some("a1b".into()), ..Match::default() }, false),
        (Match { anonymous: true, ..Match::default() }, false),
        (Match { ou: pattern("payments", Kind::Plain), ..cn("billing-api") }, true),
        (Match { ou: pattern("payroll", Kind::Plain), ..cn("billing-api") }, false),
        (Match { ou: pattern("payments", Kind::Plain), ..cn("billing") }, false),
        // Nothing asked for is not everything granted.
        (Match::default(), false),
    ];
    for (each, expected) in rows {
        assert_eq!(each.holds(&billing()), expected, "{each:?}");
    }
}

#[test]
fn a_match_is_shown_as_it_is_written() {
    let shown = Match { ou: pattern("payments", Kind::Plain), ..cn("billing-*") }.to_string();
    assert_eq!(shown, "cn = \"billing-*\" and ou = \"payments\"");
}

#[test]
fn who_shows_no_certificate_is_anonymous_and_nothing_else() {
    let nobody = Identity::anonymous();
    let anonymous = Match { anonymous: true, ..Match::default() };
    assert!(anonymous.holds(&nobody));
    assert_eq!((nobody.display_name(), anonymous.to_string()), ("anonymous".into(), "anonymous = true".into()));
    assert!(!nobody.expired(at(i64::from(i32::MAX))));
    for each in [
        Match::default(),
        cn("anonymous"),
        cn("*"),
        uri("**"),
        Match { serial: Some("0".into()), ..Match::default() },
        Match { serial: Some(String::new()), ..Match::default() },
        Match { sha256: Some(String::new()), ..Match::default() },
        Match { spki_sha256: Some(String::new()), ..Match::default() },
        Match { issuer: pattern("*", Kind::Plain), ..Match::default() },
        Match { anonymous: true, ..cn("*") },
    ] {
        assert!(!each.holds(&nobody), "{each:?}");
    }
}

#[test]
fn a_match_covers_another_only_if_it_holds_wherever_that_one_does() {
    let with_ou = |each: Match| Match { ou: pattern("payments", Kind::Plain), ..each };
    let ip = |net: &str| Match { ip: Some(net.parse().unwrap()), ..Match::default() };
    let serial = |serial: &str| Match { serial: Some(serial.into()), ..Match::default() };
    let anonymous = Match { anonymous: true, ..Match::default() };
    let rows = [
        (cn("a"), cn("a"), true),
        (cn("a"), cn("b"), false),
        (cn("*"), cn("b"), true),
        (cn("*"), cn("b-*"), true),
        (cn("b-*"), cn("b-1"), true),
        (cn("b-*"), cn("*"), false),
        (cn("b-1"), cn("b-*"), false),
        (cn("a"), with_ou(cn("a")), true),
        (with_ou(cn("a")), cn("a"), false),
        (cn("*"), uri("**"), false),
        (uri("spiffe://prod/**"), uri("spiffe://prod/a/b"), true),
        (uri("spiffe://prod/*"), uri("spiffe://prod/a/b"), false),
        (uri("spiffe://prod/*"), uri("spiffe://prod/**"), false),
        (ip("10.0.0.0/8"), ip("10.1.0.0/16"), true),
        (ip("10.1.0.0/16"), ip("10.0.0.0/8"), false),
        (serial("0a"), serial("a"), true),
        (serial("0a"), serial("b"), false),
        (anonymous.clone(), anonymous.clone(), true),
        (cn("*"), anonymous.clone(), false),
        (anonymous, cn("a"), false),
        (Match::default(), cn("a"), false),
    ];
    for (mine, theirs, expected) in rows {
        assert_eq!(mine.covers(&theirs), expected, "{mine} covers {theirs}");
    }
}

#[test]
fn a_role_is_for_peers_from_its_networks_only() {
    let from = |nets: &[&str]| {
        let nets: Vec<_> = nets.iter().map(|net| net.parse().unwrap()).collect();
        Some(Admission::new(&nets, &[]))
    };
    let made =
        |name: &str, from| Arc::new(Role { from, ..Arc::try_unwrap(role(name, 0, vec![cn("billing-api")])).unwrap() });
    // The same certificate has another role from elsewhere; where neither is for it, it has none.
    let roles = [made("inside", from(&["127.0.0.0/8"])), made("outside", from(&["10.0.0.0/8"]))];
    assert_eq!(authenticate(&roles, at(0)).unwrap().role().name, "inside");
    let error = authenticate(&roles[1..], at(0)).unwrap_err();
    assert_eq!((error.word(), error.to_string().contains("outside")), ("role-not-from-there", true));
    assert!(made("any", None).covers(&roles[0]) && !roles[0].covers(&made("any", None)));
    assert!(!roles[0].covers(&roles[1]) && made("wide", from(&["0.0.0.0/0"])).covers(&roles[1]));
}

#[test]
fn a_condition_on_a_name_the_certificate_lacks_does_not_hold() {
    let bare = Identity { sha256: "00".repeat(32), not_after: NOT_AFTER, ..Identity::default() };
    for each in [uri("**"), cn("*"), Match { dns: pattern("*", Kind::Dns), ..Match::default() }] {
        assert!(!each.holds(&bare), "{each:?}");
    }
}

#[test]
fn the_name_shown_is_the_first_of_a_fixed_order() {
    let mut identity = billing();
    let mut shown = vec![identity.display_name()];
    identity.uris.clear();
    shown.push(identity.display_name());
    identity.dns.clear();
    shown.push(identity.display_name());
    identity.cn = None;
    shown.push(identity.display_name());
    identity.emails.clear();
    shown.push(identity.display_name());
    identity.ips.clear();
    shown.push(identity.display_name());
    assert_eq!(
        shown,
        [
            "spiffe://prod/ns/billing/sa/api",
            "api.billing.example",
            "billing-api",
            "Ops@example.com",
            "10.2.0.9",
            &format!("sha256:{}", "ab".repeat(32)),
        ]
    );
}

#[test]
fn a_certificate_lives_through_its_last_second() {
    assert!(!billing().expired(at(NOT_AFTER)));
    assert!(billing().expired(at(NOT_AFTER + 1)));
}

fn role(name: &str, priority: i32, matches: Vec<Match>) -> Arc<Role> {
    let policy = Arc::new(Policy::compile(&["preset:hardened"]).unwrap());
    Arc::new(Role { name: name.into(), matches, from: None, priority, policy })
}

fn authenticate(roles: &[Arc<Role>], now: Moment) -> Result<AuthenticatedPeer, AuthenticateError> {
    let admission = Admission::new(&["127.0.0.0/8".parse().unwrap()], &[]);
    let admitted = admission.admit("127.0.0.1:4711".parse().unwrap()).unwrap();
    AuthenticatedPeer::authenticate(admitted, Arc::new(billing()), roles, &Arc::from("cache"), now)
}

#[test]
fn a_peer_gets_the_one_role_that_matches() {
    let roles = [role("other", 0, vec![cn("other")]), role("billing", 0, vec![cn("x"), uri("spiffe://prod/**")])];
    let peer = authenticate(&roles, at(0)).unwrap();
    assert_eq!(peer.role().name, "billing");
    assert_eq!((peer.src(), &**peer.service()), ("127.0.0.1:4711".parse().unwrap(), "cache"));
}

#[test]
fn a_role_that_was_selected_is_asked_about_with_the_one_it_was_selected_from() {
    let admission = Admission::new(&["127.0.0.0/8".parse().unwrap()], &[]);
    let roles = [role("door", 0, vec![cn("billing-api")]), role("inner", 0, vec![])];
    let elsewhere = Some(Admission::new(&["10.0.0.0/8".parse().unwrap()], &[]));
    let far = Arc::new(Role { from: elsewhere, ..Arc::try_unwrap(role("far", 0, vec![])).unwrap() });
    let peer = authenticate(&roles, at(0)).unwrap();
    assert!(!peer.has_selected());
    let selected = peer.select(&roles, "inner").unwrap();
    assert_eq!((selected.role().name.as_str(), selected.has_selected()), ("inner", true));
    assert_eq!(peer.select(&roles, "other").unwrap_err(), AuthenticateError::NoRole);
    assert_eq!(peer.select(&[far], "far").unwrap_err().word(), "role-not-from-there");
    let again = |roles: &[Arc<Role>]| {
        selected.revalidate(&admission, roles, at(0)).map(|peer| (peer.role().name.clone(), peer.has_selected()))
    };
    assert_eq!(again(&roles), Ok(("inner".to_owned(), true)));
    assert_eq!(again(&roles[..1]), Err(AuthenticateError::NoRole), "the role it selected is gone");
    let another = [role("house", 0, vec![cn("billing-api")]), role("inner", 0, vec![])];
    assert_eq!(again(&another), Err(AuthenticateError::NoRole), "the role it came with is another");
}

#[test]
fn nobody_without_exactly_one_best_role_is_let_in() {
    let wide = || role("wide", 0, vec![uri("**")]);
    let narrow = |priority| role("narrow", priority, vec![cn("billing-*")]);
    assert_eq!(authenticate(&[], at(0)).unwrap_err(), AuthenticateError::NoRole);
    assert_eq!(authenticate(&[role("none", 0, vec![])], at(0)).unwrap_err(), AuthenticateError::NoRole);
    assert_eq!(
        authenticate(&[wide(), narrow(0)], at(0)).unwrap_err(),
        AuthenticateError::Ambiguous(vec!["wide".into(), "narrow".into()])
    );
    assert_eq!(authenticate(&[wide(), narrow(1)], at(0)).unwrap().role().name, "narrow");
    assert_eq!(authenticate(&[wide(), narrow(-1)], at(0)).unwrap().role().name, "wide");
}

#[test]
fn an_expired_certificate_is_refused_before_its_role_is_looked_for() {
    assert_eq!(authenticate(&[], at(NOT_AFTER + 1)).unwrap_err(), AuthenticateError::Expired);
}

#[test]
fn a_reload_asks_for_address_age_and_role_again() {
    let roles = [role("billing", 0, vec![cn("billing-api")])];
    let peer = authenticate(&roles, at(0)).unwrap();
    let same = Admission::new(&["127.0.0.0/8".parse().unwrap()], &[]);
    let denied = Admission::new(&["127.0.0.0/8".parse().unwrap()], &["127.0.0.1/32".parse().unwrap()]);
    let renamed = [role("invoices", 0, vec![cn("billing-api")])];
    assert_eq!(peer.revalidate(&same, &renamed, at(0)).unwrap().role().name, "invoices");
    assert_eq!(peer.revalidate(&same, &[], at(0)).unwrap_err(), AuthenticateError::NoRole);
    assert_eq!(peer.revalidate(&same, &roles, at(NOT_AFTER + 1)).unwrap_err(), AuthenticateError::Expired);
    assert_eq!(peer.revalidate(&denied, &roles, at(0)).unwrap_err(), AuthenticateError::Address(RefuseReason::Denied));
}
