//! Libraries report by the `log` crate; in a command that serves, that is one line each on standard error.

struct Stderr {
    /// The one library whose lines are shown.
    library: &'static str,
}

impl log::Log for Stderr {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target().starts_with(self.library)
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            eprintln!("ldmesh: {level}: {}", record.args());
        }
    }

    fn flush(&self) {}
}

/// Shows what a library logs.
pub fn to_stderr(library: &'static str) {
    // A logger that is there already serves as well.
    if log::set_boxed_logger(Box::new(Stderr { library })).is_ok() {
        log::set_max_level(log::LevelFilter::Info);
    }
}
