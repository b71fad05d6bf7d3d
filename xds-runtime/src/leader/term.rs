//! One term: the loop between wishes, the control plane, the clock and the image.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::fstat;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::connections::Caretaker;
use super::host::orphan::Surroundings;
use super::image_files::PublishError;
use super::journal::{self, Journal};
use super::pipeline::{Extent, Pipeline, PipelineError};
use super::run::{Ended, Failed, HostKind, Leadership, asked};
use super::run_dir::{Open, RunDir};
use super::status::{ControlPlaneStatus, LeaderStatus, Status, types};
use super::subscriptions::{Readiness, WARM_PATIENCE, endpoint_names, is_warm, readiness};
use super::{files, upstream};
use crate::ads::{AdsClient, Command, Event, Handle, Session, Update};
use crate::compile::ALWAYS_WANTED;
use crate::config::{Pod, Settings};
use crate::control::{Control, HEARTBEAT_MS, Term, WISH_EXPIRY_MS};
use crate::pod::names;
use crate::resource::ResourceType;
use crate::shm::{Millis, now};

/// Publishes are at least this far apart: one at once, then at most 50 a second.
const PACE: Duration = Duration::from_millis(20);
/// Memory for publishing is given back when there was none for this long.
const QUIET: Duration = Duration::from_secs(2);
/// After a failed publish.
const RETRY: Duration = Duration::from_millis(500);
/// The pod's own addresses are read again once a minute.
const OWN_ADDRESSES_BEATS: u64 = 60_000 / HEARTBEAT_MS;
/// Failed publishes in a row after which another process shall try.
const FAILURES_MOST: u32 = 3;

/// A running term.
pub struct Running {
    dir: Arc<RunDir>,
    control: Control,
    term: Term,
    host: HostKind,
    give_back: fn(),
    /// Something was compiled since memory was given back.
    is_untidy: bool,
    settings: Settings,
    pipeline: Pipeline,
    journal: Option<Journal>,
    caretaker: Caretaker,
    ads: Handle,
    routes: BTreeSet<String>,
    endpoints: BTreeSet<String>,
    /// When to compile and publish; `None` = nothing changed.
    refresh_at: Option<Instant>,
    /// The next refresh is not before this.
    pause_until: Option<Instant>,
    /// Since when clusters and listeners are there.
    core_since: Option<Instant>,
    /// Wishes that the published image answers.
    served: BTreeSet<u64>,
    /// A publish waits since then for endpoints of clusters that these have come to lead to.
    warming_since: Option<Instant>,
    failures: u32,
    beats: u64,
    started: Millis,
    live_connections: usize,
    user: u32,
    control_inode: Option<u64>,
    upstream_status: ControlPlaneStatus,
    upstream_problems: Vec<String>,
    trouble: Option<String>,
    status_changed: bool,
}

impl Running {
    /// Seeds itself from the predecessor and starts the ADS client.
    ///
    /// # Errors
    /// [`files::FileError`] when STATE cannot be made; the term comes back to be resigned.
    pub fn start(
        leadership: Leadership,
        random: impl FnMut() -> u64 + Send + 'static,
    ) -> Result<Self, (Term, files::FileError)> {
        let Leadership { dir, boot, control, term, settings, upstream, host } = leadership;
        let dir = Arc::new(dir);
        let own = own_addresses(&settings);
        let endpoint = upstream::endpoint(&upstream);
        let exact_http = settings.exact_http.clone();
        let mut pipeline = match Pipeline::new(&dir, boot, control, own, exact_http, &endpoint.node) {
            Ok(pipeline) => pipeline,
            Err(error) => return Err((term, error)),
        };
        let mut session = Session::new((&endpoint.node).into());
        let mut seed = journal::read_predecessor(&dir, boot, term.epoch());
        seed.retain(|(kind, name), accepted| {
            let valid = pipeline.resources.seed(*kind, name, &accepted.raw);
            if valid {
                session.seed(*kind, name, &accepted.version, &accepted.raw);
            }
            valid
        });
        let journal = Journal::start(&dir, boot, term.epoch(), &seed);
        let trouble = journal.as_ref().err().map(ToString::to_string);
        if journal.is_ok() {
            journal::remove_older(&dir, term.epoch());
        }
        let caretaker = Caretaker::new();
        caretaker.tell(pipeline.state());
        let (uri, node) = (endpoint.uri.clone(), endpoint.node.to_json());
        let (client, ads) = AdsClient::new(endpoint, session, random);
        let mut running = Self {
            control,
            term,
            host: host.kind,
            give_back: host.give_back,
            is_untidy: true,
            settings,
            pipeline,
            journal: journal.ok(),
            caretaker,
            ads,
            routes: BTreeSet::new(),
            endpoints: BTreeSet::new(),
            refresh_at: (!seed.is_empty()).then(Instant::now),
            pause_until: None,
            core_since: None,
            served: BTreeSet::new(),
            warming_since: None,
            failures: 0,
            beats: 0,
            started: now(),
            live_connections: 0,
            user: rustix::process::geteuid().as_raw(),
            control_inode: inode(&dir),
            upstream_status: ControlPlaneStatus {
                uri,
                node,
                reason: "connecting".to_owned(),
                since: now(),
                ..Default::default()
            },
            upstream_problems: upstream.problems.iter().map(ToString::to_string).collect(),
            trouble,
            status_changed: true,
            dir,
        };
        // Names before the stream: what was seeded and is still wanted must not be taken for unwanted.
        running.pipeline.compile();
        running.subscribe();
        tokio::spawn(client.run());
        Ok(running)
    }

    /// Runs to the end of the term, and resigns unless another leads already.
    pub async fn run(mut self, stop: &Notify, wishes: &Notify) -> Ended {
        let ended = self.run_loop(stop, wishes).await;
        let _ = self.ads.commands.send(Command::Shutdown);
        if self.term.holds() && !matches!(ended, Ended::Vanished) {
            self.write_status();
        }
        self.term.resign();
        ended
    }

    async fn run_loop(&mut self, stop: &Notify, wishes: &Notify) -> Ended {
        let heartbeat = Duration::from_millis(HEARTBEAT_MS);
        let mut beats = interval_at(Instant::now() + heartbeat, heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (refresh_at, dns_at) = (self.refresh_at, self.pipeline.hostnames.next_due());
            let outliers_at = self.pipeline.outliers_due().map(instant_of);
            let step = tokio::select! {
                biased;
                _ = beats.tick() => self.beat(),
                () = asked(stop) => Err(Ended::Asked),
                () = wishes.notified() => {
                    self.on_wish();
                    Ok(())
                }
                () = at(refresh_at) => self.refresh(),
                update = self.ads.updates.recv() => match update {
                    Some(update) => {
                        self.on_update(update);
                        Ok(())
                    }
                    None => Err(Ended::Failed(Failed::ClientEnded)),
                },
                answer = self.pipeline.hostnames.next() => {
                    if self.pipeline.take_answer(answer) {
                        self.refresh_soon();
                    }
                    Ok(())
                }
                () = at(dns_at) => {
                    self.pipeline.hostnames.start_due();
                    Ok(())
                }
                () = at(outliers_at) => self.sweep_outliers(),
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    fn on_update(&mut self, update: Update) {
        let now = now();
        self.status_changed = true;
        match update {
            Update::Connected { protocol, address } => {
                self.control.heard(now);
                if self.pipeline.control_plane_is_at(address) {
                    self.refresh_soon();
                }
                let status = &mut self.upstream_status;
                (status.connected, status.since) = (true, now);
                status.protocol = protocol.to_owned();
                status.reason.clear();
                log::info!("connected to {} ({protocol})", status.uri);
            }
            Update::Disconnected { reason, retry_in } => {
                log::warn!("no stream to {}: {reason}; next attempt in {retry_in:?}", self.upstream_status.uri);
                let status = &mut self.upstream_status;
                if std::mem::take(&mut status.connected) {
                    status.since = now;
                }
                status.reason = reason;
            }
            Update::Events(events) => {
                self.control.heard(now);
                self.note_in_journal(&events, now);
                let mut changed = false;
                for event in events {
                    if let Event::Rejected { kind, name, reason, .. } = &event {
                        log::warn!("{} {name:?} rejected: {reason}; its last good value stays", kind.short());
                    }
                    changed |= self.pipeline.apply(event, now);
                }
                if changed {
                    self.refresh_soon();
                }
            }
        }
    }

    fn note_in_journal(&mut self, events: &[Event], now: Millis) {
        let Some(journal) = &mut self.journal else { return };
        let noted = events.iter().try_for_each(|event| match event {
            Event::Accepted { kind, name, version, raw, .. } => journal.accepted(*kind, name, version, now, raw),
            Event::Removed { kind, name, .. } => journal.removed(*kind, name),
            _ => Ok(()),
        });
        if let Err(error) = noted.and_then(|()| journal.flush()) {
            log::warn!("{error}");
            self.trouble = Some(error.to_string());
        }
    }

    /// At once when quiet, else at the pace.
    fn refresh_soon(&mut self) {
        let now = Instant::now();
        let earliest = self.pause_until.map_or(now, |until| until.max(now));
        self.refresh_at = Some(self.refresh_at.map_or(earliest, |at| at.min(earliest)));
    }

    fn on_wish(&mut self) {
        self.subscribe();
        self.answer_wishes();
    }

    /// Subscribes what listeners name and what is wanted.
    fn subscribe(&mut self) {
        let compiled = self.pipeline.compiled();
        let wishes = self.control.wanted(now(), WISH_EXPIRY_MS).map(|wish| wish.key);
        let endpoints = endpoint_names(wishes, &compiled.wanted);
        let routes = compiled.route_names.clone();
        for (kind, names, former) in
            [(ResourceType::Route, routes, &mut self.routes), (ResourceType::Endpoint, endpoints, &mut self.endpoints)]
        {
            if *former != names {
                // A closed channel shows at its other end.
                let _ = self.ads.commands.send(Command::SetNames(kind, names.clone()));
                *former = names;
                self.pipeline.subscribed();
            }
        }
    }

    /// Tells who waits for a wish that the published image answers. It may do so without another publish: endpoints that
    /// are subscribed anew before it is known that they no longer were (while there is no stream, say) do not come again.
    fn answer_wishes(&mut self) {
        let now = now();
        self.pipeline.settle(&self.endpoints);
        if self.warming_since.is_none() {
            let wishes = self.control.wanted(now, WISH_EXPIRY_MS).map(|wish| wish.key);
            self.served = wishes.chain([ALWAYS_WANTED]).filter(|key| self.pipeline.answers(*key)).collect();
        }
        let answered = |key| self.served.contains(&key) || self.pipeline.answers(key);
        let news = self.control.wanted(now, WISH_EXPIRY_MS).any(|wish| !wish.answered && answered(wish.key));
        self.control.sweep_wanted(now, WISH_EXPIRY_MS, answered);
        if news {
            self.control.tell_news();
        }
    }

    /// Compiles, subscribes what that shows to be needed, and publishes when it is a complete state.
    fn refresh(&mut self) -> Result<(), Ended> {
        let start = Instant::now();
        self.refresh_at = None;
        self.status_changed = true;
        if !self.term.holds() {
            return Err(Ended::Deposed);
        }
        // With the same destinations the same is wanted, and what was warm is.
        let extent = self.pipeline.compile();
        self.is_untidy = true;
        let same = extent == Extent::Endpoints && self.warming_since.is_none();
        if !same {
            self.subscribe();
        }
        let may_publish = if self.pipeline.generation() == 0 { self.is_complete() } else { same || self.is_warm() };
        if !may_publish {
            // What was compiled for nothing but the names in it shall not take up all of the time.
            self.pause_until = Some(Instant::now() + start.elapsed());
            return Ok(());
        }
        self.pause_until = Some(start + PACE);
        match self.pipeline.publish(&self.term) {
            Ok(changed) => {
                self.failures = 0;
                if self.pipeline.may_settle() {
                    self.answer_wishes();
                }
                if changed {
                    self.control.announce(now());
                }
                if let HostKind::Thread = self.host {
                    // A program has better use for it, however often there is a publish.
                    self.pipeline.rest();
                }
                Ok(())
            }
            Err(PipelineError::Publish(PublishError::Deposed)) => Err(Ended::Deposed),
            Err(error) => self.publish_failed(&error),
        }
    }

    /// Whether the first publish of the term may happen now; else it is looked at again in time.
    fn is_complete(&mut self) -> bool {
        let since = *self.core_since.get_or_insert_with(Instant::now);
        match readiness(&self.pipeline.resources, &self.routes, &self.endpoints, since.elapsed()) {
            Readiness::Ready => true,
            Readiness::Wait => {
                self.core_since = None;
                false
            }
            Readiness::WaitUntil(patience) => {
                self.refresh_at = Some(since + patience);
                false
            }
        }
    }

    /// Whether what is in use stays so with a publish; else it is looked at again when an answer comes, or in time.
    fn is_warm(&mut self) -> bool {
        if !is_warm(&self.served, &self.pipeline.compiled().wanted, &self.pipeline.resources) {
            let since = *self.warming_since.get_or_insert_with(Instant::now);
            if since.elapsed() < WARM_PATIENCE {
                self.refresh_at = Some(since + WARM_PATIENCE);
                return false;
            }
        }
        self.warming_since = None;
        true
    }

    fn publish_failed(&mut self, error: &PipelineError) -> Result<(), Ended> {
        log::error!("{error}; the last image stays");
        self.failures += 1;
        self.trouble = Some(error.to_string());
        if self.failures >= FAILURES_MOST {
            return Err(Ended::Failed(Failed::Publishing(self.failures, error.to_string())));
        }
        self.refresh_at = Some(Instant::now() + RETRY);
        Ok(())
    }

    /// The heartbeat, and what happens beside it: checks every beat, sweeps every second, the rest every five.
    fn beat(&mut self) -> Result<(), Ended> {
        let now = now();
        self.term.beat(now).map_err(|_| Ended::Deposed)?;
        self.beats += 1;
        // An open stream is contact: keepalive pings close one that is not answered.
        if self.upstream_status.connected {
            self.control.heard(now);
        }
        // A full table takes long on a busy machine: the heart beats meanwhile. That it is deposed shows at the next.
        let term = &mut self.term;
        let mut go_on = || {
            let _ = term.beat(crate::shm::now());
        };
        self.live_connections = self.pipeline.check_connections(&mut self.caretaker, now, &mut go_on);
        let is_quiet = self.pause_until.is_none_or(|until| until.elapsed() > QUIET);
        if is_quiet && std::mem::take(&mut self.is_untidy) {
            self.pipeline.rest();
            (self.give_back)();
        }
        if self.beats.is_multiple_of(2) {
            self.control.sweep_marks(now);
            self.subscribe();
            self.answer_wishes();
            self.check_surroundings(now)?;
            self.restore_files();
            if std::mem::take(&mut self.status_changed) {
                self.write_status();
            }
        }
        if self.beats.is_multiple_of(OWN_ADDRESSES_BEATS) && self.pipeline.is_at(own_addresses(&self.settings)) {
            self.refresh_soon();
        }
        if self.beats.is_multiple_of(10) {
            self.caretaker.reconcile(self.pipeline.state());
            self.pipeline.sweep_slots(now);
            self.write_status();
        }
        Ok(())
    }

    /// The interval of some cluster's outlier detection is over. What a deposed leader saw is its successor's to judge.
    fn sweep_outliers(&mut self) -> Result<(), Ended> {
        if !self.term.holds() {
            return Err(Ended::Deposed);
        }
        self.pipeline.sweep_outliers(now());
        Ok(())
    }

    /// Whether there is still somebody to lead, and somewhere.
    fn check_surroundings(&self, now: Millis) -> Result<(), Ended> {
        if rustix::process::geteuid().as_raw() != self.user {
            return Err(Ended::Failed(Failed::UserChanged));
        }
        if self.control_inode.is_none() || inode(&self.dir) != self.control_inode {
            return Err(Ended::Vanished);
        }
        let HostKind::Agent { idle_exit, spawned } = self.host else { return Ok(()) };
        let quiet = now.saturating_sub(self.control.asked().max(self.started));
        if is_idle(idle_exit, quiet, self.live_connections) {
            return Err(Ended::Idle);
        }
        if spawned && Surroundings::look().is_some_and(|seen| seen.is_last(quiet >= 1_000)) {
            return Err(Ended::LastProcess);
        }
        Ok(())
    }

    /// Others find the pod's files by name: what something removed (a cleaner of temporary files) comes back.
    fn restore_files(&mut self) {
        match self.pipeline.restore_files() {
            Ok(lacks_image) if lacks_image => self.refresh_soon(),
            Ok(_) => {}
            Err(error) => self.trouble = Some(error.to_string()),
        }
        if let Some(Err(error)) = self.journal.as_mut().map(Journal::restore) {
            self.trouble = Some(error.to_string());
        }
    }

    fn write_status(&self) {
        let kind = match self.host {
            HostKind::Agent { .. } => "agent",
            HostKind::Thread => "thread",
        };
        let problems = self.settings.problems.iter().map(ToString::to_string);
        let status = Status {
            written: now(),
            leader: LeaderStatus {
                kind: kind.to_owned(),
                pid: std::process::id(),
                epoch: self.term.epoch(),
                generation: self.pipeline.generation(),
            },
            control_plane: self.upstream_status.clone(),
            types: types(&self.pipeline.resources, &self.routes, &self.endpoints),
            problems: problems.chain(self.upstream_problems.clone()).chain(self.trouble.clone()).collect(),
            notes: self.pipeline.compiled().notes.clone(),
        };
        let written = serde_json::to_vec(&status).map(|json| files::replace(&self.dir, names::STATUS, &json));
        if let Ok(Err(error)) = written {
            log::debug!("{error}");
        }
    }
}

/// The addresses that the pod has now.
fn own_addresses(settings: &Settings) -> Vec<IpAddr> {
    let mut own = Pod::current().addresses();
    own.extend(settings.identity.instance_ip.filter(|ip| !own.contains(ip)));
    own
}

/// True when an agent has nobody to lead any more.
fn is_idle(idle_exit: Option<Duration>, quiet: Millis, live_connections: usize) -> bool {
    live_connections == 0 && idle_exit.is_some_and(|idle_exit| u128::from(quiet) >= idle_exit.as_millis())
}

/// What tells the CONTROL in the folder from another one; `None` = it is gone.
fn inode(dir: &RunDir) -> Option<u64> {
    let file = dir.open_file(names::CONTROL, Open::Read).ok()??;
    Some(fstat(file.as_fd()).ok()?.st_ino)
}

/// A time of the clock as a timer's.
fn instant_of(due: Millis) -> Instant {
    Instant::now() + Duration::from_millis(due.saturating_sub(now()))
}

async fn at(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_stays_while_somebody_asks_or_a_connection_lives() {
        let limit = Some(Duration::from_secs(60));
        assert!(!is_idle(limit, 59_999, 0));
        assert!(is_idle(limit, 60_000, 0));
        assert!(!is_idle(limit, 600_000, 1));
        assert!(!is_idle(None, u64::MAX, 0));
    }
}
