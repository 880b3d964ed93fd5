//! What is exposed, and when.

use super::*;
use crate::{
    audit::{
        encode::ConnectionFacts,
        event::{ConnectionEvent, ProcessEvent},
        outlet::Plan,
        record::{CommandRecord, Context, KeyList, Name, Outcome, Recorder},
        sink::{Sink, Target, proof::Checkpoints},
    },
    config::settings::UpstreamAddress,
    moment::Moment,
    net::upkeep::{Seen, Storm, Tuning},
    resp::reply::Class,
};
use std::{cell::RefCell, time::Duration};

/// A pen that has seen one of everything.
fn pen() -> Recorder {
    let now = Moment::default();
    let mut pen = Recorder::new(0, 0);
    let src = "10.0.0.1:1".parse().unwrap();
    let facts = ConnectionFacts::new("c", "cache", src, "cn:api", "billing", None);
    let ran = CommandRecord {
        name: Name::Unknown(b"NOSUCH", None),
        db: 0,
        argc: 1,
        keys: KeyList::default(),
        context: Context::TopLevel,
        tx: None,
        rule: None,
        shadow: Some("preset:hardened/y"),
        local: false,
        outcome: Outcome::Ran,
        class: Some(Class::Status),
        error: None,
        elements: None,
        bytes_in: 10,
        bytes_out: 5,
        us: Some(1_500_000),
    };
    pen.begin(now, &facts, &ran);
    pen.command(now, &facts, &ran);
    let denied = CommandRecord {
        rule: Some("preset:hardened/x"),
        shadow: None,
        outcome: Outcome::Denied,
        class: Some(Class::Error),
        us: None,
        ..ran
    };
    pen.command(now, &facts, &denied);
    pen.upstream_command(now, &facts, "AUTH", Outcome::Ran, None, 1);
    for event in [
        ConnectionEvent::Open,
        ConnectionEvent::UpstreamFailed { reason: "connect", detail: "" },
        ConnectionEvent::Authentication { verdict: crate::audit::event::AuthVerdict::Deny, method: "AUTH" },
        ConnectionEvent::Alarm { reason: "noauth" },
        ConnectionEvent::Close {
            reason: "quit",
            detail: "",
            commands: 2,
            denied: 1,
            bytes_in: 20,
            bytes_out: 9,
            us: 5,
        },
    ] {
        pen.connection(now, &facts, &event);
    }
    for event in [
        ProcessEvent::Refused { src, service: "cache", listener: "l", reason: "not-admitted", via: None, detail: "" },
        ProcessEvent::HandshakeFailure {
            src,
            service: "cache",
            reason: "expired",
            detail: "",
            hint: None,
            unverified: &[],
            via: None,
        },
        ProcessEvent::AcceptError { listener: "l", reason: "fd-limit", detail: "" },
    ] {
        pen.process(now, &event);
    }
    pen.delayed("rate:commands");
    pen
}

fn metrics(workers: Vec<Arc<WorkerStats>>) -> Metrics {
    let checkpoints = Checkpoints { every: Duration::from_secs(10), lines: None, key: None };
    let (sink, _) = Sink::open_as(&Plan::default(), Target::File("/dev/null".into()), Some(&checkpoints), 1).unwrap();
    Metrics::new("0.1.0", 1_795_209_003, workers, vec![sink.monitor()]).unwrap()
}

#[test]
fn every_family_is_exposed_with_its_labels_and_the_workers_are_added_up() {
    let workers = vec![Arc::new(WorkerStats::default()), Arc::new(WorkerStats::default())];
    for worker in &workers {
        worker.publish(pen().counters());
    }
    workers[1].connections().store(3, Ordering::Relaxed);
    let text = metrics(workers).render().unwrap();
    for line in [
        "ravelin_connections{worker=\"0\"} 0",
        "ravelin_connections{worker=\"1\"} 3",
        "ravelin_connections_opened_total{service=\"cache\"} 2",
        "ravelin_connections_closed_total{service=\"cache\",reason=\"quit\"} 2",
        "ravelin_refused_total{service=\"cache\",reason=\"not-admitted\"} 2",
        "ravelin_handshake_failures_total{service=\"cache\",reason=\"expired\"} 2",
        "ravelin_upstream_failures_total{service=\"cache\",reason=\"connect\"} 2",
        "ravelin_alarms_total{service=\"cache\",reason=\"noauth\"} 2",
        "ravelin_client_auth_total{service=\"cache\",verdict=\"deny\"} 2",
        "ravelin_client_auth_total{service=\"cache\",verdict=\"ignore\"} 0",
        "ravelin_client_bytes_total{service=\"cache\",direction=\"in\"} 40",
        "ravelin_client_bytes_total{service=\"cache\",direction=\"out\"} 18",
        "ravelin_accept_errors_total{reason=\"fd-limit\"} 2",
        "ravelin_commands_total{command=\"unknown\",outcome=\"ran\"} 2",
        "ravelin_commands_total{command=\"unknown\",outcome=\"denied\"} 2",
        "ravelin_command_time_seconds_total{command=\"unknown\"} 3",
        "ravelin_command_seconds_bucket{le=\"1\"} 0",
        "ravelin_command_seconds_bucket{le=\"2.5\"} 2",
        "ravelin_command_seconds_bucket{le=\"+Inf\"} 2",
        "ravelin_command_seconds_sum 3",
        "ravelin_command_seconds_count 2",
        "ravelin_command_bytes_total{direction=\"in\"} 40",
        "ravelin_command_bytes_total{direction=\"out\"} 20",
        "ravelin_denied_total{rule=\"preset:hardened/x\"} 2",
        "ravelin_shadowed_total{rule=\"preset:hardened/y\"} 2",
        "ravelin_delayed_total{rule=\"rate:commands\"} 2",
        "ravelin_upstream_commands_total{outcome=\"ran\"} 2",
        "ravelin_audit_records_total 24",
        "ravelin_audit_begins_total 2",
        "ravelin_audit_lines_total{output=\"\"} 24",
        "ravelin_audit_dropped_total{output=\"\"} 0",
        "ravelin_audit_written_bytes_total{output=\"\"} 0",
        "ravelin_audit_queue_bytes{output=\"\"} 0",
        "ravelin_audit_failing{output=\"\"} 0",
        "ravelin_start_time_seconds 1795209003",
        "ravelin_build_info{version=\"0.1.0\"} 1",
        "ravelin_draining 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
    for (name, _, labels, help) in FAMILIES {
        assert!(text.contains(&format!("# HELP ravelin_{name} {help}\n")), "{name}");
        let sample = text.lines().find(|line| line.starts_with(&format!("ravelin_{name}")));
        for label in labels {
            assert!(sample.unwrap().contains(&format!("{label}=")), "{name} has the label {label}");
        }
    }
}

#[test]
fn states_that_the_shell_sets_are_exposed() {
    let metrics = metrics(Vec::new());
    let keeper = Keeper::new(
        vec![UpstreamAddress::Unix("/a".into()), UpstreamAddress::Unix("/b".into())],
        Tuning::default(),
        Storm::default(),
    );
    keeper.looked(0, Seen::Loading, "LOADING", 0, 0);
    metrics.set_upstream("cache", &keeper);
    metrics.set_upstream("cache", &keeper);
    metrics.set_certificates("cache", [("server", 1_900_000_000), ("crl", 1), ("server", 1_800_000_000)].into_iter());
    metrics.set_certificates("cache", [("server", 1_900_000_000), ("server", 1_800_000_000)].into_iter());
    metrics.count_reload("config", false);
    metrics.set_draining();
    metrics.set_bans(7, 2);
    let text = metrics.render().unwrap();
    for line in [
        "ravelin_upstream_up{service=\"cache\"} 1",
        "ravelin_upstream_used{service=\"cache\"} 1",
        "ravelin_upstream_switches_total{service=\"cache\"} 1",
        "ravelin_upstream_looks_total{found=\"loading\",service=\"cache\"} 1",
        "ravelin_upstream_waiting{service=\"cache\"} 0",
        "ravelin_upstream_connecting{service=\"cache\"} 0",
        "ravelin_certificate_not_after_seconds{certificate=\"server\",service=\"cache\"} 1800000000",
        "ravelin_reloads_total{result=\"kept\",what=\"config\"} 1",
        "ravelin_draining 1",
        "ravelin_bans{of=\"address\"} 7",
        "ravelin_bans{of=\"certificate\"} 2",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn a_scrape_gets_the_figures_of_the_moment_and_does_not_wait_for_who_is_gone() {
    let worker = Arc::new(WorkerStats::default());
    let gone = Arc::new(WorkerStats::default());
    let metrics = metrics(vec![Arc::clone(&worker), gone]);
    let pen = RefCell::new(Recorder::new(0, 0));
    let mut serve = Box::pin(worker.serve(|| pen.borrow().counters()));
    tokio::select! {
        // In this order: a worker that has not begun to answer is not waited for.
        biased;
        () = &mut serve => unreachable!(),
        () = async {
            for records in 0..3 {
                assert!(metrics.refresh(Duration::from_secs(30)).await);
                let text = metrics.render().unwrap();
                assert!(text.contains(&format!("ravelin_audit_records_total {records}\n")), "{text}");
                pen.borrow_mut().process(Moment::default(), &ProcessEvent::Stop { reason: "drained", us: 0 });
            }
        } => {}
    }
    drop(serve);
    assert!(metrics.refresh(Duration::from_secs(30)).await, "a worker that is gone is not waited for");
}

#[tokio::test]
async fn a_worker_that_never_comes_to_its_turn_is_told() {
    let worker = Arc::new(WorkerStats::default());
    let metrics = metrics(vec![Arc::clone(&worker)]);
    let mut serve = Box::pin(worker.serve(Counters::default));
    // Polled once, so that it is there; then never again.
    assert!(std::future::poll_fn(|context| std::task::Poll::Ready(serve.as_mut().poll(context).is_pending())).await);
    assert!(!metrics.refresh(Duration::from_millis(20)).await);
}
