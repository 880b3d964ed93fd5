//! What the main thread does besides waiting for the end: reloads, the watch over files, secrets in their time, and a
//! Redis that refuses the proxy's password.

use super::{
    Scribe,
    reload::{By, InForce},
    supervisor::Supervisor,
    watch::{Digests, Sight, Watch},
};
use crate::{
    admin::operator::{ReloadAnswer, ReloadOrder},
    audit::event::ProcessEvent,
    config::Source,
    drain::Request,
    metrics::Metrics,
    net::{
        credential::{self, Taken},
        service::House,
    },
    tls::expiry::{Reminder, Say},
};
use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Most lines of a difference that the log shows.
const LOGGED_MAX: usize = 50;

/// Why the last reload kept the old configuration, if it did: for `/readyz`.
pub(super) type LastFailure = Arc<Mutex<Option<String>>>;

/// Whose password is asked about: a service by its place, and a role with a password of its own.
type Asked = (usize, Option<Arc<str>>);

/// What the main thread looks after.
pub(super) struct Steward<'s> {
    source: &'s Source,
    house: Arc<House>,
    metrics: Arc<Metrics>,
    pub(super) in_force: InForce,
    watch: Watch,
    failure: LastFailure,
    /// Whose refusal is in the records.
    told: BTreeSet<Asked>,
    asking: JoinSet<(Asked, Taken)>,
    ask_at: Option<Instant>,
    /// What was said of certificates that end.
    reminder: Reminder,
    supervisor: Supervisor,
}

/// What is to be done next.
pub(super) enum Errand {
    /// The files are to be looked at.
    Look,
    /// Programs are to be run.
    Run,
    /// One has ended.
    Printed(super::secrets::Printed),
    /// A connection was refused, or it is time to ask again.
    Refused,
    /// Redis has answered.
    Asked(Asked, Taken),
}

impl<'s> Steward<'s> {
    pub(super) fn new(
        source: &'s Source,
        house: Arc<House>,
        metrics: Arc<Metrics>,
        in_force: InForce,
        failure: LastFailure,
        supervisor: Supervisor,
    ) -> Self {
        metrics.reloaded(true, house.clock.now().wall_us / 1_000_000);
        let mut steward = Self {
            source,
            house,
            metrics,
            in_force,
            watch: Watch::new(),
            failure,
            told: BTreeSet::new(),
            asking: JoinSet::new(),
            ask_at: None,
            reminder: Reminder::default(),
            supervisor,
        };
        // That was said when they were loaded, and is said again in a day.
        drop(steward.reminders());
        steward
    }

    /// What there is to say now of certificates and lists that end by themselves.
    pub(super) fn reminders(&mut self) -> Vec<(String, Say)> {
        super::due(&mut self.reminder, &self.house)
    }

    /// Waits for the next errand. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Errand {
        let until = |at: Option<Instant>| async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let look = self.watch.due(self.in_force.settings().reload.watch);
        // While Redis is being asked nobody asks it again.
        let ask = self.ask_at.filter(|_| self.asking.is_empty());
        let run = self.in_force.secrets.due();
        tokio::select! {
            () = until(look) => Errand::Look,
            () = until(run) => Errand::Run,
            printed = self.in_force.secrets.ended() => Errand::Printed(printed),
            () = self.house.refusal.notified() => Errand::Refused,
            () = until(ask) => Errand::Refused,
            Some(Ok((asked, taken))) = self.asking.join_next(), if !self.asking.is_empty() => Errand::Asked(asked, taken),
        }
    }

    /// Does it; whether live connections are to be asked again. What was asked for meanwhile is put into `later`.
    pub(super) async fn run(
        &mut self,
        errand: Errand,
        scribe: &mut Scribe,
        requests: &mut mpsc::Receiver<Request>,
        later: &mut VecDeque<Request>,
    ) -> bool {
        match errand {
            Errand::Look => {
                let Some(every) = self.in_force.settings().reload.watch else { return false };
                let now = Digests::of(self.in_force.settings());
                match self.watch.look(every, self.in_force.files(), now) {
                    Sight::Same | Sight::Changing => false,
                    Sight::Changed | Sight::Unmended => self
                        .reload(By::Watch, scribe, requests, later)
                        .await
                        .is_some_and(|answer| answer.failed.is_none()),
                }
            }
            Errand::Run => {
                self.in_force.secrets.run_due();
                false
            }
            Errand::Printed((command, result)) => {
                let program = command.program.display().to_string();
                let failed = result.as_ref().err().cloned();
                let _ = self.in_force.secrets.keep(vec![(command, result)]);
                match failed {
                    None => self.refresh(scribe),
                    Some(error) => {
                        self.metrics.count_reload("secrets", false);
                        tracing::error!(program, error, "the program prints no password; the last one is kept");
                        let failed = format!("{program} prints no password: {error}");
                        self.record(scribe, "secrets", By::Secret, &[], Some(&failed));
                        false
                    }
                }
            }
            Errand::Refused => {
                let new = self.tell_refusals(scribe);
                let due = self.ask_at.is_none_or(|at| at <= Instant::now());
                if !(new || due) || !self.asking.is_empty() {
                    // However many clients are refused, Redis is asked once at a time, and not at once again.
                    return false;
                }
                self.ask_at = None;
                let swapped = self.refresh(scribe);
                self.ask_about_refused();
                self.forget_gone(scribe);
                swapped
            }
            Errand::Asked((service, role), taken) => {
                self.answered(service, role, taken, scribe);
                false
            }
        }
    }

    /// Reloads; nothing if the process is to end meanwhile.
    pub(super) async fn reload(
        &mut self,
        by: By,
        scribe: &mut Scribe,
        requests: &mut mpsc::Receiver<Request>,
        later: &mut VecDeque<Request>,
    ) -> Option<ReloadAnswer> {
        // What is tried again at every look because a file is wrong is no reload to whoever waits for one.
        if by.is_asked() {
            self.supervisor.reloading();
        }
        let answer = self.try_reload(by, scribe, requests, later).await;
        if by.is_asked() {
            self.supervisor.ready();
        }
        answer
    }

    async fn try_reload(
        &mut self,
        by: By,
        scribe: &mut Scribe,
        requests: &mut mpsc::Receiver<Request>,
        later: &mut VecDeque<Request>,
    ) -> Option<ReloadAnswer> {
        let files = Digests::of(self.in_force.settings());
        let outcome = {
            let mut reload = std::pin::pin!(self.in_force.reload(self.source, &self.house, by));
            loop {
                tokio::select! {
                    outcome = &mut reload => break outcome,
                    Some(request) = requests.recv() => {
                        later.push_back(request);
                        if request == Request::Stop {
                            return None;
                        }
                    }
                }
            }
        };
        let (changes, failed) = match outcome {
            Ok(changes) => (changes, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        self.watch.reloaded(failed.is_some().then_some(files));
        let before =
            std::mem::replace(&mut *self.failure.lock().unwrap_or_else(PoisonError::into_inner), failed.clone());
        let answer = ReloadAnswer { failed, changes, config_sha256: self.in_force.digest().to_owned() };
        if by == By::Watch && answer.failed.is_some() && before == answer.failed {
            // Tried again, and not mended: that was said.
            return Some(answer);
        }
        self.metrics.count_reload("config", answer.failed.is_none());
        self.metrics.reloaded(answer.failed.is_none(), self.house.clock.now().wall_us / 1_000_000);
        self.record(scribe, "config", by, &answer.changes, answer.failed.as_deref());
        match &answer.failed {
            None => {
                super::publish_certificates(&self.house, &self.metrics);
                drop(self.reminders());
                tracing::info!(
                    by = by.word(),
                    changes = answer.changes.len(),
                    "reloaded: the new configuration is in force"
                );
                for change in answer.changes.iter().take(LOGGED_MAX) {
                    tracing::info!("changed: {change}");
                }
                self.ask_about_changed(&answer.changes);
            }
            Some(reason) => tracing::error!("not reloaded, the old configuration is kept: {reason}"),
        }
        Some(answer)
    }

    /// What an operator asked for over the admin socket.
    pub(super) async fn obey(
        &mut self,
        order: ReloadOrder,
        scribe: &mut Scribe,
        requests: &mut mpsc::Receiver<Request>,
        later: &mut VecDeque<Request>,
    ) -> bool {
        tracing::info!(by = %order.operator, "a reload is asked for over the admin socket");
        let Some(answer) = self.reload(By::Operator, scribe, requests, later).await else { return false };
        let swapped = answer.failed.is_none();
        // Whoever asked may have left.
        let _ = order.answer.send(answer);
        swapped
    }

    fn record(&self, scribe: &mut Scribe, what: &'static str, by: By, changes: &[String], failed: Option<&str>) {
        let config_sha256 = self.in_force.digest();
        scribe.write(&ProcessEvent::Reload { what, by: by.word(), changes, failed, config_sha256 });
    }

    /// Puts passwords in force that have become others; whether there are any.
    fn refresh(&mut self, scribe: &mut Scribe) -> bool {
        let changed = self.in_force.refresh(&self.house);
        if changed.is_empty() {
            return false;
        }
        let changes: Vec<String> =
            changed.iter().map(|account| format!("the password of {account} has changed")).collect();
        for change in &changes {
            tracing::info!("{change}");
        }
        self.metrics.count_reload("secrets", true);
        self.record(scribe, "secrets", By::Secret, &changes, None);
        self.ask_about_changed(&changes);
        true
    }

    /// Redis is asked about a new password only where it has refused the old one: else the next client tells.
    fn ask_about_changed(&mut self, changes: &[String]) {
        if !changes.is_empty() && !self.told.is_empty() {
            self.ask_at = Some(Instant::now());
        }
    }

    /// Says whose password is refused; whether that is news.
    fn tell_refusals(&mut self, scribe: &mut Scribe) -> bool {
        let mut new = false;
        for (index, service) in self.house.services.iter().enumerate() {
            for (role, why) in service.refused() {
                let asked = (index, role);
                if self.told.insert(asked.clone()) {
                    new = true;
                    let (service, role) = (&*service.name, asked.1.as_deref());
                    let why = if why.is_empty() { "a connection's AUTH" } else { &why };
                    tracing::error!(service, role, why, "Redis refuses the proxy's password; it is asked again");
                    self.metrics.set_credential_refused(service, role.unwrap_or_default(), true);
                    scribe.write(&ProcessEvent::UpstreamCredential { service, role, refused: Some(why) });
                }
            }
        }
        new
    }

    /// Has programs run that print what is refused, and asks Redis about each.
    fn ask_about_refused(&mut self) {
        for (index, service) in self.house.services.iter().enumerate() {
            for asked in service.refused().into_keys().map(|role| (index, role)) {
                let house = Arc::clone(&self.house);
                self.asking.spawn(async move {
                    let Some(service) = house.services.get(asked.0) else { return (asked, Taken::Unknown) };
                    let taken =
                        credential::ask(&house.clock, service, &service.live.load_full(), asked.1.as_deref()).await;
                    (asked, taken)
                });
            }
        }
        let programs: Vec<_> = self
            .in_force
            .settings()
            .passwords()
            .filter(|(account, ..)| {
                let index = self.house.services.iter().position(|service| service.name == account.service);
                index.is_some_and(|index| self.told.contains(&(index, account.role.clone())))
            })
            .filter_map(|(_, password, _)| password.source.command().cloned())
            .collect();
        programs.iter().for_each(|command| self.in_force.secrets.hurry(command));
    }

    /// A role that has no password of its own any more is refused none.
    fn forget_gone(&mut self, scribe: &mut Scribe) {
        let gone: Vec<Asked> = self
            .told
            .iter()
            .filter(|(index, role)| {
                self.house.services.get(*index).is_none_or(|service| !service.refused().contains_key(role))
            })
            .cloned()
            .collect();
        for (index, role) in gone {
            self.accepted(index, role, scribe);
        }
    }

    fn answered(&mut self, index: usize, role: Option<Arc<str>>, taken: Taken, scribe: &mut Scribe) {
        let Some(service) = self.house.services.get(index) else { return };
        match taken {
            Taken::Yes => {
                service.note_credential(role.as_ref(), None);
                // Whoever looks at it has the old news.
                service.live.load().keeper.hurry();
                self.accepted(index, role, scribe);
            }
            Taken::No(why) => {
                if service.note_credential(role.as_ref(), Some(why.clone())) {
                    let role = role.as_deref();
                    tracing::warn!(service = %service.name, role, why, "Redis refuses the proxy's password still");
                }
            }
            Taken::Unknown => {}
        }
        if !self.told.is_empty() && self.ask_at.is_none() {
            self.ask_at = Some(Instant::now() + credential::AGAIN);
        }
    }

    fn accepted(&mut self, index: usize, role: Option<Arc<str>>, scribe: &mut Scribe) {
        let Some(service) = self.house.services.get(index) else { return };
        let name = &*service.name;
        if self.told.remove(&(index, role.clone())) {
            tracing::info!(service = name, role = role.as_deref(), "Redis takes the proxy's password again");
            self.metrics.set_credential_refused(name, role.as_deref().unwrap_or_default(), false);
            scribe.write(&ProcessEvent::UpstreamCredential { service: name, role: role.as_deref(), refused: None });
        }
    }
}
