//! Reading the shared files into a [`Report`]. Nothing is counted or advanced by looking.

use std::fs::File;
use std::io::Read;
use std::time::SystemTime;

use anyhow::{Result, bail};
use xds_runtime::boot::BootId;
use xds_runtime::control::{Switch, WISH_EXPIRY_MS};
use xds_runtime::image::{ClusterView, EndpointView, ImageFile, PolicyView, ReadError, Torn, View};
use xds_runtime::leader::journal;
use xds_runtime::leader::run_dir::{Open, RunDir};
use xds_runtime::leader::status::Status;
use xds_runtime::pod::{Pod, names};
use xds_runtime::shm::{self, Millis};
use xds_runtime::state::{SlotKind, State, named_tag};

use super::client_config::{ClientConfig, Clock};
use super::{Cluster, Endpoint, Image, Leader, Process, Report, Tables, Wanted};

/// A larger report is not the leader's.
const STATUS_MOST: u64 = 16 << 20;
/// A large listing takes longer than a publish: it is tried this often.
const ATTEMPTS: u32 = 50;

/// Reads everything.
pub(super) fn gather(pod: &Pod) -> Result<Report> {
    let (control, now) = (pod.control(), shm::now());
    let dir = pod.run_dir()?;
    let lead = control.lead();
    let contact = control.contact();
    let (image, clusters) = match pod.image() {
        Some(file) => {
            let (image, clusters) = read_image(&file, pod, now)?;
            (Some(image), clusters)
        }
        None => (None, Vec::new()),
    };
    let said = read_status(&dir);
    let clock = Clock { shared: now, wall: SystemTime::now() };
    let client_config = said.as_ref().map(|said| {
        let accepted = BootId::read().map(|boot| journal::read_newest(&dir, boot));
        ClientConfig::new(said, accepted.unwrap_or_default(), &clock)
    });
    Ok(Report {
        run_dir: dir.path().display().to_string(),
        switch: match control.switch() {
            Switch::On => "on",
            Switch::Off => "off",
            Switch::Tripped => "tripped",
        },
        left_behind: control.left_behind(now),
        leader: Leader {
            alive: lead.is_alive(now),
            epoch: lead.epoch,
            heartbeat_age: (lead.heartbeat != 0).then(|| now.saturating_sub(lead.heartbeat)),
            contact_age: (contact != 0).then(|| now.saturating_sub(contact)),
            stale: control.is_stale(now),
        },
        said,
        image,
        state: pod.state().map(tables),
        processes: control
            .presences(now)
            .map(|presence| Process {
                pid: presence.pid,
                name: String::from_utf8_lossy(&presence.comm).trim_end_matches('\0').to_owned(),
                seen_age: now.saturating_sub(presence.seen),
            })
            .collect(),
        wanted: control
            .wanted(now, WISH_EXPIRY_MS)
            .map(|wish| Wanted { age: now.saturating_sub(wish.last), answered: wish.answered })
            .collect(),
        clusters,
        client_config: client_config.unwrap_or_default(),
    })
}

fn tables(state: State) -> Tables {
    let slots = state.mapped_slots();
    let is_used = |index: &usize| u32::try_from(*index).is_ok_and(|at| state.slot_at(at).is_some_and(|s| s.tag() != 0));
    Tables { connections: state.connections().count(), slots_used: (0..slots).filter(is_used).count(), slots }
}

/// `None`: no leader said anything yet, or what is there is not ours.
fn read_status(dir: &RunDir) -> Option<Status> {
    let file = File::from(dir.open_file(names::STATUS, Open::Read).ok()??.into_owned());
    let mut text = String::new();
    file.take(STATUS_MOST).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

fn read_image(file: &ImageFile, pod: &Pod, now: Millis) -> Result<(Image, Vec<Cluster>)> {
    let state = pod.state();
    for _ in 0..ATTEMPTS {
        let read = file.read(|view| {
            let clusters = (0..view.cluster_count()?)
                .map(|index| cluster(view, &view.cluster(index)?, state, now))
                .collect::<Result<Vec<_>, Torn>>()?;
            Ok((view.name_count()?, view.destination_count()?, clusters))
        });
        match read {
            Ok((names, destinations, clusters)) => {
                let term = pod.control().image().map_or(0, |id| id.term);
                let age = now.saturating_sub(pod.control().published());
                return Ok((Image { term, generation: file.generation(), age, names, destinations }, clusters));
            }
            Err(ReadError::Busy) => {}
            Err(error) => bail!("{error}"),
        }
    }
    bail!("the image changes too fast to be listed; try again")
}

fn cluster(view: &View<'_>, cluster: &ClusterView, state: Option<State>, now: Millis) -> Result<Cluster, Torn> {
    let mut endpoints = Vec::new();
    for priority in 0..cluster.priority_count() {
        let localities = view.priority(cluster, priority)?;
        for nth in 0..localities.locality_count() {
            let locality = view.locality(&localities, nth)?;
            let name = view.string(locality.name)?;
            for nth in 0..locality.set.len() {
                let found = view.endpoint(&locality.set, nth)?;
                endpoints.push(endpoint(cluster, &found, priority, &name, state, now));
            }
        }
    }
    let tag = named_tag(SlotKind::Cluster, cluster.owner);
    let slot = state.zip(cluster.slot).and_then(|(state, index)| state.slot(index, tag));
    Ok(Cluster {
        name: view.string(cluster.name)?,
        policy: match cluster.policy {
            PolicyView::Refuse => "refuses".to_owned(),
            PolicyView::RoundRobin => "round robin".to_owned(),
            PolicyView::LeastRequest { choice_count, .. } => format!("least request of {choice_count}"),
            PolicyView::Random => "random".to_owned(),
            PolicyView::RingHash => "ring hash".to_owned(),
            PolicyView::Maglev => "Maglev".to_owned(),
            PolicyView::Aggregate { count, .. } => format!("aggregate of {count} clusters"),
            PolicyView::Pass(reason, detail) => format!("passes: {reason:?} {}", view.string(detail)?),
        },
        endpoints_known: cluster.endpoints_known,
        active: slot.map_or(0, |slot| slot.active()),
        endpoints,
    })
}

fn endpoint(
    cluster: &ClusterView,
    found: &EndpointView,
    priority: u32,
    locality: &str,
    state: Option<State>,
    now: Millis,
) -> Endpoint {
    let tag = found.tag(cluster);
    // An ejection holds for as long as its cluster has outlier detection.
    let ejects = cluster.detects_outliers();
    let slot = state.zip(found.slot).and_then(|(state, index)| state.slot(index, tag));
    let ejection = slot.map(|slot| slot.ejection()).filter(|ejection| ejects && ejection.until > now);
    Endpoint {
        address: found.address.socket(found.port).to_string(),
        priority,
        locality: locality.to_owned(),
        weight: found.weight,
        health: format!("{:?}", found.health).to_lowercase(),
        takes_mtls: found.takes_mtls,
        picks: slot.map_or(0, |slot| slot.picks()),
        active: slot.map_or(0, |slot| slot.active()),
        failures: slot.map_or(0, |slot| slot.failures()),
        consecutive_failures: slot.map_or(0, |slot| slot.failures_in_a_row()),
        successes: slot.map_or(0, |slot| slot.successes()),
        ejections: slot.map_or(0, |slot| slot.ejection().times),
        ejection_multiplier: slot.map_or(0, |slot| slot.ejection().multiplier),
        ejected_for: ejection.map(|ejection| ejection.until.saturating_sub(now)),
        ejected_by: ejection.and_then(|ejection| Some(ejection.detector?.to_string())),
    }
}
