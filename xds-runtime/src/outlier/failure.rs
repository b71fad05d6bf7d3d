//! A connect failed: counted, and acted upon by the process that counted it.

use super::{Census, Detector, Settings, Thresholds, Verdict, eject};
use crate::image::{ClusterView, ImageFile, Torn, View};
use crate::lb::{Entropy, MAX_LOOKS};
use crate::shm::Millis;
use crate::state::{Member, SlotKind, State, endpoint_tag, named_tag};

/// Counts the failure of a connect to a member of a cluster. Without `settings` it is only counted. Returns the ejection
/// that came of it.
pub fn count_failure(
    state: &State,
    member: &Member,
    settings: Option<&Settings>,
    census: &mut dyn FnMut() -> Option<Census>,
    now: Millis,
    entropy: &mut (impl Entropy + ?Sized),
) -> Option<Ejected> {
    let endpoint = member.endpoint(state)?;
    let Some(settings) = settings else {
        endpoint.failed(Thresholds::NEVER, now);
        return None;
    };
    let mut ejected = None;
    for detector in endpoint.failed(settings.thresholds(), now).detectors() {
        match eject(state, member, settings, detector, census, now, entropy) {
            Verdict::Ejected(until) => ejected = Some(Ejected { until, detector }),
            Verdict::Busy => endpoint.detect_again(detector, settings.thresholds()),
            Verdict::EjectedBefore | Verdict::Overflow | Verdict::NotEnforced | Verdict::NoSlot => {}
        }
    }
    ejected
}

/// An ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejected {
    /// Until when.
    pub until: Millis,
    /// By whom.
    pub detector: Detector,
}

/// [`count_failure`] with settings and endpoints as an image has them.
pub fn failed_in(
    image: Option<&ImageFile>,
    state: &State,
    member: &Member,
    now: Millis,
    entropy: &mut (impl Entropy + ?Sized),
) -> Option<Ejected> {
    let read = image.and_then(|image| image.read(|view| settings_of(view, state, member)).ok());
    let mut census = || image.and_then(|image| image.read(|view| census(view, state, member, now)).ok()?);
    count_failure(state, member, read.flatten().as_ref(), &mut census, now, entropy)
}

fn settings_of(view: &View<'_>, state: &State, member: &Member) -> Result<Option<Settings>, Torn> {
    match cluster_in(view, state, member)? {
        Some(cluster) => view.outlier(&cluster),
        None => Ok(None),
    }
}

/// The cluster of a member in an image: where its slot says that it is, else by looking at all of them.
pub fn cluster_in(view: &View<'_>, state: &State, member: &Member) -> Result<Option<ClusterView>, Torn> {
    let is_it = |cluster: &ClusterView| named_tag(SlotKind::Cluster, cluster.hash) == member.cluster_tag;
    let count = view.cluster_count()?;
    let hint = member.cluster(state).and_then(|slot| slot.index()).filter(|index| *index < count);
    for index in hint.into_iter().chain(0..count) {
        let cluster = view.cluster(index)?;
        if is_it(&cluster) {
            return Ok(Some(cluster));
        }
    }
    Ok(None)
}

/// The endpoints of a member's cluster, and how many of them are ejected.
fn census(view: &View<'_>, state: &State, member: &Member, now: Millis) -> Result<Option<Census>, Torn> {
    let Some(cluster) = cluster_in(view, state, member)? else { return Ok(None) };
    let mut census = Census::default();
    for nth in 0..cluster.priority_count() {
        let set = view.priority(&cluster, nth)?.set;
        for nth in 0..set.len() {
            let endpoint = view.endpoint(&set, nth)?;
            census.hosts += 1;
            if census.hosts > MAX_LOOKS {
                return Err(Torn);
            }
            let tag = endpoint_tag(cluster.hash, endpoint.address, endpoint.port);
            let slot = endpoint.slot.and_then(|index| state.slot(index, tag));
            census.ejected += u32::from(slot.is_some_and(|slot| slot.is_ejected(now)));
        }
    }
    Ok(Some(census))
}
