//! `LDMESH_RESOLVE=endpoint`: for programs whose connects cannot be seen, a lookup answers an endpoint's address.
//!
//! A name has one answer for all its ports. So an endpoint stands for a VIP only where it serves every port of the VIP
//! under the same number; else the VIP is answered, which works unbalanced.

use xds_runtime::image::{ActionView, ClusterView, ImageFile, Torn, View};
use xds_runtime::lb::{self, Call, Choice, Seeded};
use xds_runtime::shm::{Millis, WordAddr};
use xds_runtime::state::State;

use crate::core::mesh::Mesh;
use crate::core::process::Context;

/// The endpoint to answer instead of a VIP; `None` = the VIP it is.
pub fn instead_of(context: &Context, mesh: &dyn Mesh, vip: WordAddr, now: Millis) -> Option<WordAddr> {
    let (image, state): (ImageFile, Option<State>) = (mesh.image()?, mesh.state());
    let mut entropy = Seeded(context.entropy(0));
    image.read(|view| pick(view, state.as_ref(), vip, now, &mut entropy)).ok().flatten()
}

fn pick(
    view: &View<'_>,
    state: Option<&State>,
    vip: WordAddr,
    now: Millis,
    entropy: &mut Seeded,
) -> Result<Option<WordAddr>, Torn> {
    let mut picked = None;
    for index in 0..view.destination_count()? {
        let (address, port, destination) = view.destination_at(index)?;
        if address != vip {
            continue;
        }
        let call = Call { address: vip, port, source: &|| None, now, avoid: &[] };
        let candidate = match picked {
            // The first port's policy decides.
            None => match lb::choose(view, state, &call, entropy)? {
                Choice::Endpoint(pick) if pick.address.ip().is_ipv4() == vip.ip().is_ipv4() => pick.address,
                _ => return Ok(None),
            },
            Some(picked) => picked,
        };
        if !serves(view, destination.action, candidate, port)? {
            return Ok(None);
        }
        picked = Some(candidate);
    }
    Ok(picked)
}

/// Whether an address is among the endpoints of an action, with the port itself as its target port.
fn serves(view: &View<'_>, action: ActionView, address: WordAddr, port: u16) -> Result<bool, Torn> {
    let ActionView::Clusters { first, count, .. } = action else { return Ok(false) };
    for nth in 0..count {
        for member in view.members(view.cluster(view.weighted(first, nth)?.0)?) {
            if has(view, &member?, address, port)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn has(view: &View<'_>, cluster: &ClusterView, address: WordAddr, port: u16) -> Result<bool, Torn> {
    for nth in 0..cluster.priority_count() {
        let set = view.priority(cluster, nth)?.set;
        for nth in 0..set.len() {
            let endpoint = view.endpoint(&set, nth)?;
            if (endpoint.address, endpoint.port) == (address, port) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
