//! Asking the image on behalf of a lookup, forward or reverse: the one way in which lookups wait.
//!
//! ```text
//! nothing published, or the image is old and nobody leads: wait under the pod's deadline, then pass
//! read: not the mesh's -> pass       judge: as good as it gets, or wait for better
//! ```
//! Lookups of a pod wait together; a signal ends the wait with the real call.

use xds_runtime::config::Mode;
use xds_runtime::control::Switch;
use xds_runtime::image::{Torn, View};
use xds_runtime::shm::futex::Wake;
use xds_runtime::shm::{self, Millis};

use crate::core::choose::await_news;
use crate::core::lookup::Fault;
use crate::core::mesh::{Mesh, OLD_IMAGE_MS, Occasion, confirmed};
use crate::core::process::{self, Context};
use crate::core::verdict::{Verdict, Why};

/// What a lookup wants to know.
pub trait Question {
    /// Copies the answer out of the image; false = the mesh knows none.
    ///
    /// # Errors
    /// [`Torn`] of the view.
    fn read(&mut self, view: &View<'_>) -> Result<bool, Torn>;

    /// What the answer comes to now, and until when waiting for a better one is worth while (0 = no longer).
    fn judge(&self, context: &Context, mesh: &dyn Mesh, now: Millis) -> (Verdict<(), Fault>, Millis);
}

/// Asks until there is an answer, or the pod's patience is over.
pub fn ask(context: &Context, mesh: &dyn Mesh, question: &mut dyn Question) -> Verdict<(), Fault> {
    let control = mesh.control();
    let patience = context.settings.ready_timeout.as_millis() as Millis;
    // The pod's deadline is another process's word: no wait is longer than this process would make it.
    let patience_ends = shm::now().saturating_add(patience);
    loop {
        let now = shm::now();
        if control.switch() != Switch::On {
            return Verdict::Pass(Why::SwitchedOff);
        }
        let news = control.news();
        control.ask(now);
        process::attend(control, now);
        let mark = control.mark(std::ptr::from_ref(&now) as usize, now);
        let read = match mesh.image() {
            None => Err(Why::NoImage),
            Some(image) => image.read(|view| question.read(view)).map_err(Why::from),
        };
        control.unmark(mark);
        let leads = control.lead().is_alive(now);
        if !leads {
            mesh.call_leader(Occasion::Lookup, now);
        }
        let is_old = !leads && now.saturating_sub(confirmed(control)) > OLD_IMAGE_MS;
        let (verdict, deadline) = match read {
            Err(why @ Why::NoImage) => (Verdict::Pass(why), control.wait_until(now, patience)),
            Err(why) => return Verdict::Pass(why),
            Ok(known) => {
                let not_in_mesh = (Verdict::Pass(Why::NotInMesh), 0);
                let (verdict, until) = if known { question.judge(context, mesh, now) } else { not_in_mesh };
                let until = if leads { until } else { 0 };
                (verdict, if is_old { control.wait_until(now, patience) } else { until })
            }
        };
        let deadline = deadline.min(patience_ends);
        if now >= deadline || context.settings.mode == Mode::Shadow {
            return verdict;
        }
        if await_news(mesh, news, deadline - now) == Wake::Interrupted {
            return Verdict::Pass(Why::Interrupted);
        }
    }
}
