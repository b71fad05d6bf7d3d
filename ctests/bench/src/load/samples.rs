//! How long each piece of work took, and what it cost this process.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Times of pieces of work, in nanoseconds.
pub(crate) struct Samples {
    nanoseconds: Vec<u64>,
    bytes: u64,
    start: Instant,
    processor: Duration,
    elapsed: Duration,
}

impl Samples {
    /// Does a piece of work, which gives how many bytes it got, until the time is over.
    pub fn of(time: Duration, mut one: impl FnMut() -> Result<usize>) -> Result<Self> {
        let mut samples = Samples::begin();
        let until = samples.start + time;
        let mut before = samples.start;
        while before < until {
            let bytes = one()?;
            let after = Instant::now();
            samples.add(after - before, bytes);
            before = after;
        }
        Ok(samples.end())
    }

    pub fn begin() -> Self {
        let room = Vec::with_capacity(1 << 16);
        Samples { nanoseconds: room, bytes: 0, start: Instant::now(), processor: processor(), elapsed: Duration::ZERO }
    }

    pub fn add(&mut self, took: Duration, bytes: usize) {
        self.nanoseconds.push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        self.bytes += bytes as u64;
    }

    pub fn is_empty(&self) -> bool {
        self.nanoseconds.is_empty()
    }

    pub fn end(mut self) -> Self {
        self.elapsed = self.start.elapsed();
        self.processor = processor() - self.processor;
        self
    }

    pub fn print(mut self) -> Result<()> {
        self.nanoseconds.sort_unstable();
        let seconds = self.elapsed.as_secs_f64();
        let line = json!({
            "count": self.nanoseconds.len(),
            "per_second": self.nanoseconds.len() as f64 / seconds,
            "bytes_per_second": self.bytes as f64 / seconds,
            "p50_ns": self.quantile(0.5),
            "p99_ns": self.quantile(0.99),
            "p999_ns": self.quantile(0.999),
            "processor_ns": u64::try_from(self.processor.as_nanos())?,
        });
        println!("{line}");
        Ok(())
    }

    /// The least sample that this share of all is not above.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.nanoseconds.len() as f64).ceil() as usize;
        self.nanoseconds.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// What all threads of this process have used of processors.
fn processor() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}
