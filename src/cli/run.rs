//! `ravelin run`: read the configuration, serve, drain.

use super::{complain, exit};
use crate::{
    config::{
        Source,
        settings::{Log, LogFormat},
    },
    server::{
        self,
        supervisor::{Inherited, Supervisor},
    },
};
use std::{io::IsTerminal, process::ExitCode};
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    Layer, Registry,
    filter::EnvFilter,
    fmt::{self, FmtContext, FormatEvent, FormatFields, format},
    layer::SubscriberExt as _,
    registry::LookupSpan,
    reload,
    util::SubscriberInitExt as _,
};

/// Serves what the configuration says until a signal ends it. The exit code is 0 after a clean drain, 1 if the system
/// refused something or the drain was cut short, 3 if the configuration or a file it names cannot be used.
pub(super) fn main(source: &Source) -> ExitCode {
    let environment = |name: &str| std::env::var_os(name);
    // Before anything else opens a descriptor; said once there is a log to say it in.
    let inherited = Inherited::take(environment, std::process::id());
    let settings = match source.load() {
        Ok(settings) => settings,
        Err(errors) => {
            complain(&errors);
            return ExitCode::from(exit::CONFIG);
        }
    };
    let set_log = start_log(settings.log);
    report_panics();
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    let inherited = match inherited {
        Ok(inherited) => inherited,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    raise_file_limit(settings.limits.max_connections.get());
    let supervisor = Supervisor::new(environment, std::process::id());
    match server::serve(source, settings, supervisor, inherited, set_log) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error}");
            error.exit_code()
        }
    }
}

/// The operational log goes to standard error; standard output may be the audit stream. `RAVELIN_LOG`-like filters are
/// deliberately absent: what is logged is in the configuration. Returned is what puts another level and format in force.
fn start_log(log: Log) -> Box<dyn Fn(Log)> {
    let (filter_layer, filter_in_force) = reload::Layer::new(filter(log));
    let (lines_layer, lines_in_force) = reload::Layer::new(lines(log.format));
    // A second subscriber is refused; that one is already there is all that matters.
    let _ = tracing_subscriber::registry().with(lines_layer).with(filter_layer).try_init();
    Box::new(move |log| {
        let _ = filter_in_force.reload(filter(log));
        let _ = lines_in_force.reload(lines(log.format));
    })
}

/// What writes lines of this format.
fn lines(format: LogFormat) -> Box<dyn Layer<Registry> + Send + Sync> {
    let layer = fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => layer.with_target(false).boxed(),
        LogFormat::Json => layer
            .event_format(NotAudit(format::format().json().flatten_event(true)))
            .fmt_fields(format::JsonFields::new())
            .boxed(),
    }
}

fn filter(log: Log) -> EnvFilter {
    EnvFilter::new(format!("{},ravelin={}", quiet(log), log.level.name()))
}

/// Libraries are asked for warnings, and for more only where everything is.
const fn quiet(log: Log) -> &'static str {
    match log.level {
        crate::config::settings::LogLevel::Trace => "debug",
        _ => "warn",
    }
}

/// JSON lines that begin with `"stream":"log"`, so that a collector that mixes both streams can tell them from audit
/// records, which begin with `"v"`.
struct NotAudit<F>(F);

impl<S, N, F> FormatEvent<S, N> for NotAudit<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        ctx: &FmtContext<'_, S, N>,
        mut out: format::Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, format::Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(out, "{{\"stream\":\"log\",{rest}"),
            None => out.write_str(&line),
        }
    }
}

/// A panic's message may hold bytes of a client, so only its place is told.
fn report_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!("panic at {place}: please report it");
    }));
}

/// The soft limit on open files is a relic of `select`; a connection takes two.
fn raise_file_limit(connections: u32) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if setrlimit(Resource::Nofile, raised).is_err() {
        tracing::debug!("the limit on open files cannot be raised");
    }
    let needed = u64::from(connections).saturating_mul(2).saturating_add(64);
    if let Some(have) = getrlimit(Resource::Nofile).current
        && have < needed
    {
        tracing::warn!(
            have,
            needed,
            "the limit on open files is too low for limits.max_connections; raise LimitNOFILE (systemd) or `ulimit -n`"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::NotAudit;
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };
    use tracing_subscriber::fmt::format;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_line_in_json_says_that_it_is_not_audit() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .event_format(NotAudit(format().json().flatten_event(true)))
            .fmt_fields(format::JsonFields::new())
            .finish();
        tracing::subscriber::with_default(subscriber, || tracing::info!(answer = 42, "hello"));
        let line = lines.0.lock().unwrap().clone();
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["stream"], "log");
        assert_eq!(value["message"], "hello");
        assert_eq!(value["answer"], 42);
    }
}
