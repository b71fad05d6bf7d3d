//! CONTROL: the small file through which the processes of a pod and their leader meet.
//!
//! ```text
//! words 0..64      header: MAGIC, boot id; lead, image, switch, deadlines, settings (a word each)
//! 64..             marks      (one per thread inside our code, and calls that came out: the crash breaker reads them)
//! then             wanted     (destinations that some process resolved or dialled)
//! then             presence   (processes seen lately, for `status`)
//! ```
//! Every word is written by one atomic operation, so a writer that dies in the middle leaves nothing half done.

mod lead;
mod marks;
mod presence;
mod wanted;

pub use lead::{Deposed, HEARTBEAT_MS, LEADER_STALE_MS, LeadView, Term};
pub use marks::{BREAKER_LIMIT, BREAKER_MOST, BREAKER_WINDOW_MS, CALLS_PER_END, MARK_STALE_MS, Mark};
pub use presence::{PRESENCES, Presence};
pub use wanted::{WANTED, WISH_EXPIRY_MS, Wanted};

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::boot::BootId;
use crate::shm::futex::{self, Wake};
use crate::shm::{Millis, Words, pack, unpack};

const MAGIC: u64 = u64::from_le_bytes(*b"LDMESHC\x01");

const AT_MAGIC: usize = 0;
const AT_BOOT: usize = 1;
const AT_LEAD: usize = 8;
const AT_IMAGE: usize = 16;
/// Low half is the futex word of everybody who waits for configuration.
const AT_NEWS: usize = 17;
const AT_CONTACT: usize = 18;
const AT_SWITCH: usize = 19;
const AT_READY_UNTIL: usize = 20;
const AT_ATTEMPT: usize = 21;
const AT_ASKED: usize = 22;
const AT_MAX_STALE: usize = 23;
const AT_BREAKER: usize = 24;
/// Low half is the futex word of the leader, who waits for wishes.
const AT_WISHES: usize = 25;
const AT_PUBLISHED: usize = 26;
const AT_FAILED_TERMS: usize = 27;
const AT_BREAKER_CALLS: usize = 28;
const HEADER_WORDS: usize = 64;
const MARKS_AT: usize = HEADER_WORDS;
const WANTED_AT: usize = MARKS_AT + marks::MARKS * marks::MARK_WORDS;
const PRESENCE_AT: usize = WANTED_AT + WANTED * wanted::WANTED_WORDS;
/// Words of the file.
pub const CONTROL_WORDS: usize = PRESENCE_AT + PRESENCES * presence::PRESENCE_WORDS;

/// The mapped CONTROL file.
#[derive(Clone, Copy)]
pub struct Control {
    words: &'static [AtomicU64],
}

/// Which file holds the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageId {
    /// The leader's epoch.
    pub term: u32,
    /// Number of the file within the term (it grows by doubling into a new one).
    pub sequence: u32,
}

impl ImageId {
    /// As one word; never 0, because terms begin at 1.
    pub const fn word(self) -> u64 {
        pack(self.term, self.sequence)
    }
}

/// The pod's switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// Normal.
    On,
    /// `ldmesh off`: every process passes everything.
    Off,
    /// The crash breaker turned the pod off.
    Tripped,
}

impl Control {
    /// Believes a mapping only if it is large enough and its header names this boot.
    pub fn open(words: &'static [AtomicU64], boot: BootId) -> Option<Self> {
        let view = Words::new(words);
        let ours = words.len() >= CONTROL_WORDS
            && view.load(AT_MAGIC)? == MAGIC
            && [view.load(AT_BOOT)?, view.load(AT_BOOT + 1)?] == boot.words();
        ours.then_some(Self { words })
    }

    /// Formats a fresh, zeroed, fully allocated mapping.
    pub fn format(words: &'static [AtomicU64], boot: BootId) -> Option<Self> {
        if words.len() < CONTROL_WORDS {
            return None;
        }
        let control = Self { words };
        let [high, low] = boot.words();
        control.cell(AT_BOOT).store(high, Ordering::Relaxed);
        control.cell(AT_BOOT + 1).store(low, Ordering::Relaxed);
        control.cell(AT_MAX_STALE).store(u64::MAX, Ordering::Relaxed);
        control.cell(AT_MAGIC).store(MAGIC, Ordering::Release);
        Some(control)
    }

    /// A word of the header or tables; the length was checked when the mapping was believed.
    #[inline]
    fn cell(&self, at: usize) -> &'static AtomicU64 {
        static SPARE: AtomicU64 = AtomicU64::new(0);
        self.words.get(at).unwrap_or(&SPARE)
    }

    /// The switch of the pod.
    #[inline]
    pub fn switch(&self) -> Switch {
        match self.cell(AT_SWITCH).load(Ordering::Relaxed) {
            0 => Switch::On,
            2 => Switch::Tripped,
            _ => Switch::Off,
        }
    }

    /// Sets the switch; whoever waits is woken and passes.
    pub fn set_switch(&self, switch: Switch) {
        let word = match switch {
            Switch::On => 0,
            Switch::Off => 1,
            Switch::Tripped => 2,
        };
        self.cell(AT_SWITCH).store(word, Ordering::Release);
        self.tell_news();
        self.tell_wish();
    }

    /// The image to read; `None` = nothing was published in this boot.
    #[inline]
    pub fn image(&self) -> Option<ImageId> {
        match unpack(self.cell(AT_IMAGE).load(Ordering::Acquire)) {
            (0, _) => None,
            (term, sequence) => Some(ImageId { term, sequence }),
        }
    }

    /// Names another image file; refused (false) when a later term already named its own. A file of a term that
    /// there never was is garbage, and gives way.
    pub fn set_image(&self, id: ImageId) -> bool {
        let word = id.word();
        // The last term is looked up after the image was: whoever named it had taken its term before.
        let may_replace = |current| current <= word || unpack(current).0 > self.lead().epoch.max(id.term);
        self.cell(AT_IMAGE)
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |current| may_replace(current).then_some(word))
            .is_ok()
    }

    /// When the image was published last.
    pub fn published(&self) -> Millis {
        self.cell(AT_PUBLISHED).load(Ordering::Relaxed)
    }

    /// Says that a publish is complete: wakes who waits, and ends the pod's waiting period.
    pub fn announce(&self, now: Millis) {
        self.cell(AT_PUBLISHED).store(now, Ordering::Relaxed);
        self.cell(AT_READY_UNTIL).store(0, Ordering::Relaxed);
        self.cell(AT_FAILED_TERMS).store(0, Ordering::Relaxed);
        self.tell_news();
    }

    /// A term failed; how many did since something was published.
    pub fn term_failed(&self) -> u64 {
        self.cell(AT_FAILED_TERMS).fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Wakes everybody who waits for configuration.
    pub fn tell_news(&self) {
        self.cell(AT_NEWS).fetch_add(1, Ordering::AcqRel);
        futex::wake_all(self.cell(AT_NEWS));
    }

    /// The news count, to be given to [`Control::await_news`].
    pub fn news(&self) -> u32 {
        self.cell(AT_NEWS).load(Ordering::Acquire) as u32
    }

    /// Waits for news after `seen`, at most `timeout`.
    pub fn await_news(&self, seen: u32, timeout: Duration) -> Wake {
        futex::wait(self.cell(AT_NEWS), seen, timeout)
    }

    /// Wakes the leader.
    pub fn tell_wish(&self) {
        self.cell(AT_WISHES).fetch_add(1, Ordering::AcqRel);
        futex::wake_all(self.cell(AT_WISHES));
    }

    /// The wish count, to be given to [`Control::await_wish`].
    pub fn wishes(&self) -> u32 {
        self.cell(AT_WISHES).load(Ordering::Acquire) as u32
    }

    /// The leader's wait for wishes after `seen`.
    pub fn await_wish(&self, seen: u32, timeout: Duration) -> Wake {
        futex::wait(self.cell(AT_WISHES), seen, timeout)
    }

    /// When the control plane was last heard.
    pub fn contact(&self) -> Millis {
        self.cell(AT_CONTACT).load(Ordering::Relaxed)
    }

    /// The control plane was heard.
    pub fn heard(&self, now: Millis) {
        self.cell(AT_CONTACT).store(now, Ordering::Relaxed);
    }

    /// Age of the last contact after which ClusterIP services pass to the kernel, as the leader set it;
    /// `u64::MAX` = never.
    pub fn max_stale(&self) -> Millis {
        self.cell(AT_MAX_STALE).load(Ordering::Relaxed)
    }

    /// Sets it (leader).
    pub fn set_max_stale(&self, age: Millis) {
        self.cell(AT_MAX_STALE).store(age, Ordering::Relaxed);
    }

    /// True when the last contact is older than [`Control::max_stale`].
    pub fn is_stale(&self, now: Millis) -> bool {
        now.saturating_sub(self.contact()) > self.max_stale()
    }

    /// The pod-wide time until which waiting for configuration is allowed. The first who asks starts the period
    /// of `patience`; once it is over nobody waits until something is published.
    pub fn wait_until(&self, now: Millis, patience: Millis) -> Millis {
        let deadline = now.saturating_add(patience).max(1);
        match self.cell(AT_READY_UNTIL).compare_exchange(0, deadline, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => deadline,
            Err(running) => running,
        }
    }

    /// Lets one process of the pod try to start a leader: true for the one that may, and for nobody else for
    /// `pause` from now.
    pub fn may_attempt(&self, now: Millis, pause: Millis) -> bool {
        let cell = self.cell(AT_ATTEMPT);
        let next = cell.load(Ordering::Acquire);
        // A time far in the future is no time that anybody set.
        let blocked = now < next && next - now <= 60_000;
        !blocked && cell.compare_exchange(next, now.saturating_add(pause), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Puts the next attempt off until `until`, where it would come earlier (whoever tried knows that it is no use).
    pub fn postpone_attempt(&self, until: Millis) {
        self.cell(AT_ATTEMPT).fetch_max(until, Ordering::AcqRel);
    }

    /// Some process asked for a decision about the mesh (kept to a second).
    #[inline]
    pub fn ask(&self, now: Millis) {
        let cell = self.cell(AT_ASKED);
        if now.saturating_sub(cell.load(Ordering::Relaxed)) >= 1000 {
            cell.store(now, Ordering::Relaxed);
        }
    }

    /// When some process asked last.
    pub fn asked(&self) -> Millis {
        self.cell(AT_ASKED).load(Ordering::Relaxed)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A CONTROL of its own, leaked, for tests.
    pub(crate) fn control() -> Control {
        let words: Vec<AtomicU64> = (0..CONTROL_WORDS).map(|_| AtomicU64::new(0)).collect();
        Control::format(Box::leak(words.into_boxed_slice()), BootId::from_words([1, 2])).expect("large enough")
    }
}

#[cfg(test)]
mod tests {
    use super::testing::control;
    use super::*;

    #[test]
    fn a_file_of_another_boot_is_not_believed() {
        let control = control();
        assert!(Control::open(control.words, BootId::from_words([1, 2])).is_some());
        assert!(Control::open(control.words, BootId::from_words([1, 3])).is_none());
    }

    #[test]
    fn a_late_leader_cannot_name_its_image_over_its_successors() {
        let control = control();
        control.take_lead(1000).unwrap().resign();
        control.take_lead(1000).unwrap();
        assert!(control.set_image(ImageId { term: 2, sequence: 0 }));
        assert!(!control.set_image(ImageId { term: 1, sequence: 9 }));
        assert!(control.set_image(ImageId { term: 2, sequence: 1 }));
        assert_eq!(control.image(), Some(ImageId { term: 2, sequence: 1 }));
    }

    #[test]
    fn an_image_of_a_term_that_never_was_does_not_bar_the_next_leader() {
        let control = control();
        control.cell(AT_IMAGE).store(u64::MAX, Ordering::Relaxed);
        control.take_lead(1000).unwrap();
        assert!(control.set_image(ImageId { term: 1, sequence: 0 }));
    }

    #[test]
    fn the_pod_waits_once_until_something_is_published() {
        let control = control();
        assert_eq!(control.wait_until(1000, 500), 1500);
        assert_eq!(control.wait_until(1400, 500), 1500, "the second waits no longer than the first");
        assert_eq!(control.wait_until(9000, 500), 1500, "and later nobody waits");
        control.announce(9500);
        assert_eq!(control.wait_until(10_000, 500), 10_500);
    }

    #[test]
    fn one_process_attempts_to_lead_at_a_time() {
        let control = control();
        assert!(control.may_attempt(1000, 300));
        assert!(!control.may_attempt(1299, 300));
        assert!(control.may_attempt(1300, 300));
    }

    #[test]
    fn an_attempt_that_is_no_use_is_put_off() {
        let control = control();
        assert!(control.may_attempt(1000, 300));
        control.postpone_attempt(9000);
        assert!(!control.may_attempt(8999, 300));
        assert!(control.may_attempt(9000, 300));
    }

    #[test]
    fn failed_terms_are_counted_until_something_is_published() {
        let control = control();
        assert_eq!((control.term_failed(), control.term_failed()), (1, 2));
        control.announce(1000);
        assert_eq!(control.term_failed(), 1);
    }

    #[test]
    fn staleness_counts_from_the_last_contact() {
        let control = control();
        control.heard(1000);
        assert!(!control.is_stale(u64::MAX - 1), "no limit was set");
        control.set_max_stale(5000);
        assert!(!control.is_stale(6000));
        assert!(control.is_stale(6001));
    }
}
