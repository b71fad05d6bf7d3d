//! The small value types of the variables: each parses itself from text and says what it accepts.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

/// Why a value was not taken; its text is the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Remedy(pub String);

impl Remedy {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Remedy(text.into())
    }
}

macro_rules! word_enum {
    ($(#[$outer:meta])* $name:ident, $remedy:literal { $($(#[$inner:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$inner])* $variant),+ }

        impl FromStr for $name {
            type Err = Remedy;
            fn from_str(text: &str) -> Result<Self, Remedy> {
                $(if text.eq_ignore_ascii_case($word) { return Ok(Self::$variant); })+
                Err(Remedy::new($remedy))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word),+ })
            }
        }
    };
}

word_enum! {
    /// `LDMESH_MODE`: what the hooks do with a decision.
    Mode, "use on, off or shadow" {
        /// Decide and act.
        #[default]
        On = "on",
        /// Pass every call through.
        Off = "off",
        /// Decide and record, change nothing.
        Shadow = "shadow",
    }
}

word_enum! {
    /// `LDMESH_LEAD`: how this process may host the leader.
    Lead, "use auto, agent, thread or never" {
        /// The agent where its binary stands beside the library, else a thread.
        #[default]
        Auto = "auto",
        /// Only the agent, also in a process that would get it as a child.
        Agent = "agent",
        /// Only a thread of this process.
        Thread = "thread",
        /// This process never leads.
        Never = "never",
    }
}

word_enum! {
    /// `LDMESH_FAIL`: what happens as long as there is no configuration at all.
    FailMode, "use open or closed" {
        /// The original call.
        #[default]
        Open = "open",
        /// `EAI_AGAIN` for names, `ECONNREFUSED` for connections.
        Closed = "closed",
    }
}

word_enum! {
    /// `LDMESH_RESOLVE`: which address a service name resolves to.
    Resolve, "use vip or endpoint" {
        /// The service's own address, balanced at each connect.
        #[default]
        Vip = "vip",
        /// An endpoint's address, for programs whose connects cannot be seen.
        Endpoint = "endpoint",
    }
}

/// Parses `0`, or a whole number followed by `us`, `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Result<Duration, Remedy> {
    let remedy = || Remedy::new("use a whole number with a unit, as in 500ms, 2s, 5m or 1h");
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(split);
    let number: u64 = digits.parse().map_err(|_| remedy())?;
    let micros_per_unit: u64 = match unit {
        "" if number == 0 => 0,
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        "h" => 3_600_000_000,
        "d" => 86_400_000_000,
        _ => return Err(remedy()),
    };
    let micros = number.checked_mul(micros_per_unit).ok_or_else(remedy)?;
    Ok(Duration::from_micros(micros))
}

/// `LDMESH_MAX_STALE`: how old the last contact with the control plane may become before services with a
/// ClusterIP pass to the kernel's own path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxStale {
    /// Pass after this long.
    After(Duration),
    /// `inf`: the last good configuration holds for ever.
    Never,
}

impl Default for MaxStale {
    fn default() -> Self {
        MaxStale::After(Duration::from_secs(300))
    }
}

impl FromStr for MaxStale {
    type Err = Remedy;
    fn from_str(text: &str) -> Result<Self, Remedy> {
        if text.eq_ignore_ascii_case("inf") {
            return Ok(MaxStale::Never);
        }
        parse_duration(text).map(MaxStale::After).map_err(|Remedy(remedy)| Remedy(format!("{remedy}, or inf")))
    }
}

/// `LDMESH_LOG_FILE`: a path in which `%p` stands for the pid of the process that writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile(String);

impl LogFile {
    /// The path for one process. `%%` is a percent sign; any other `%x` stays as it is.
    pub fn path(&self, pid: u32) -> PathBuf {
        let mut out = String::with_capacity(self.0.len().saturating_add(8));
        let mut chars = self.0.chars().peekable();
        while let Some(c) = chars.next() {
            match (c, chars.peek()) {
                ('%', Some('p')) => {
                    chars.next();
                    out.push_str(&pid.to_string());
                }
                ('%', Some('%')) => {
                    chars.next();
                    out.push('%');
                }
                _ => out.push(c),
            }
        }
        PathBuf::from(out)
    }
}

impl FromStr for LogFile {
    type Err = Remedy;
    fn from_str(text: &str) -> Result<Self, Remedy> {
        if text.ends_with('/') {
            return Err(Remedy::new("name a file, not a folder"));
        }
        Ok(LogFile(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_take_a_number_with_a_unit_and_nothing_else() {
        let good = [
            ("0", Duration::ZERO),
            ("0ms", Duration::ZERO),
            ("250us", Duration::from_micros(250)),
            ("500ms", Duration::from_millis(500)),
            ("2s", Duration::from_secs(2)),
            ("5m", Duration::from_secs(300)),
            ("1h", Duration::from_secs(3600)),
            ("2d", Duration::from_secs(172_800)),
        ];
        for (text, expected) in good {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for bad in ["", "5", "ms", "-1s", "1.5s", "5 s", "5S", "inf", "99999999999999999d", "1m30s"] {
            assert!(parse_duration(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn only_the_staleness_may_be_endless() {
        assert_eq!("inf".parse(), Ok(MaxStale::Never));
        assert_eq!("90s".parse(), Ok(MaxStale::After(Duration::from_secs(90))));
        assert!("forever".parse::<MaxStale>().unwrap_err().0.contains("inf"));
    }

    #[test]
    fn the_log_file_carries_the_pid_where_it_says_so() {
        let path = |text: &str| text.parse::<LogFile>().unwrap().path(42);
        assert_eq!(path("/tmp/a.%p.log"), PathBuf::from("/tmp/a.42.log"));
        assert_eq!(path("/tmp/%%p%d%"), PathBuf::from("/tmp/%p%d%"));
        assert!("/tmp/".parse::<LogFile>().is_err());
    }

    #[test]
    fn words_are_taken_in_any_case_and_print_as_they_are_documented() {
        assert_eq!("Shadow".parse(), Ok(Mode::Shadow));
        assert_eq!(Lead::Thread.to_string(), "thread");
        assert_eq!("opened".parse::<FailMode>(), Err(Remedy::new("use open or closed")));
    }
}
