//! One line per write(2), from a stack buffer, to stderr or a file that is opened for the line alone.
//!
//! Never stdout; nothing at all while `LDMESH_LOG` is off. Raw system calls: no cancellation point, no lock.

use std::ffi::{CString, c_long};
use std::fmt::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;

use log::{Level, LevelFilter};
use xds_runtime::config::LogFile;

/// Longest line; what is longer is cut.
const LINE: usize = 400;

/// Where lines go, and which.
pub struct Log {
    filter: LevelFilter,
    file: Option<LogFile>,
    /// Device and inode of stderr at load.
    stderr: Option<(u64, u64)>,
}

impl Log {
    /// A log as configured.
    pub fn new(filter: LevelFilter, file: Option<LogFile>) -> Self {
        let stderr = if filter == LevelFilter::Off || file.is_some() { None } else { stderr() };
        Self { filter, file, stderr }
    }

    /// Whether lines of this level are written.
    #[inline]
    pub fn takes(&self, level: Level) -> bool {
        level <= self.filter
    }

    /// Writes a line.
    #[inline]
    pub fn line(&self, level: Level, text: fmt::Arguments<'_>) {
        if self.takes(level) {
            self.write(level, text);
        }
    }

    // Not inlined: the line is no part of its caller's frame.
    #[cold]
    #[inline(never)]
    fn write(&self, level: Level, text: fmt::Arguments<'_>) {
        // SAFETY: takes no argument.
        let pid = unsafe { libc::syscall(libc::SYS_getpid) } as u32;
        let mut line = Line { bytes: [0; LINE], length: 0 };
        let _ = write!(line, "ldmesh[{pid}] {level}: {text}");
        line.end();
        match &self.file {
            // A program that closed it may keep its data under the number by now.
            None if self.stderr.is_some() && stderr() == self.stderr => line.write(2),
            None => {}
            Some(file) => {
                let Ok(path) = CString::new(file.path(pid).as_os_str().as_bytes()) else { return };
                let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_CLOEXEC | libc::O_NOCTTY;
                // SAFETY: a nul-terminated path; the descriptor is ours and closed again.
                unsafe {
                    let fd = libc::syscall(
                        libc::SYS_openat,
                        c_long::from(libc::AT_FDCWD),
                        path.as_ptr(),
                        c_long::from(flags),
                        0o600_i64,
                    );
                    if fd >= 0 {
                        line.write(fd);
                        libc::syscall(libc::SYS_close, fd);
                    }
                }
            }
        }
    }
}

/// What descriptor 2 is.
fn stderr() -> Option<(u64, u64)> {
    // SAFETY: only looked at, and open or an error.
    let descriptor = unsafe { BorrowedFd::borrow_raw(2) };
    rustix::fs::fstat(descriptor).ok().map(|stat| (stat.st_dev, stat.st_ino))
}

struct Line {
    bytes: [u8; LINE],
    length: usize,
}

impl Line {
    fn end(&mut self) {
        self.length = self.length.min(LINE - 1);
        if let Some(last) = self.bytes.get_mut(self.length) {
            *last = b'\n';
        }
        self.length += 1;
    }

    /// A reader that is gone (SIGPIPE) or a file at its limit (SIGXFSZ) costs the line, not the program.
    fn write(&self, fd: c_long) {
        let signals = kernel_set(libc::SIGPIPE) | kernel_set(libc::SIGXFSZ);
        let (mut former, mut pending, at_once) = (0_u64, 0_u64, libc::timespec { tv_sec: 0, tv_nsec: 0 });
        let set = size_of::<u64>() as c_long;
        // SAFETY: whole sets of the kernel's size; `length` bytes of the buffer are initialised; a short or failed write
        // loses the line. Both signals are the writing thread's own, so what is taken away is what the write raised.
        unsafe {
            libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, set);
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                c_long::from(libc::SIG_BLOCK),
                &raw const signals,
                &raw mut former,
                set,
            );
            let written = libc::syscall(libc::SYS_write, fd, self.bytes.as_ptr(), self.length);
            let raised = signals & !pending;
            if written < 0 && raised != 0 {
                let nowhere = std::ptr::null_mut::<libc::siginfo_t>();
                libc::syscall(libc::SYS_rt_sigtimedwait, &raw const raised, nowhere, &raw const at_once, set);
            }
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                c_long::from(libc::SIG_SETMASK),
                &raw const former,
                std::ptr::null_mut::<u64>(),
                set,
            );
        }
    }
}

/// A signal in the kernel's set of 64.
const fn kernel_set(signal: libc::c_int) -> u64 {
    1 << (signal - 1)
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let Some(place) = self.bytes.get_mut(self.length) else { break };
            // A line is one line, whatever a name contains.
            *place = if byte.is_ascii_control() { b'?' } else { byte };
            self.length += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(text: fmt::Arguments<'_>) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("%p.log");
        let log = Log::new(LevelFilter::Info, file.to_str().map(|path| path.parse().unwrap()));
        log.line(Level::Debug, format_args!("not this"));
        log.line(Level::Info, text);
        std::fs::read(folder.path().join(format!("{}.log", std::process::id()))).unwrap()
    }

    #[test]
    fn a_line_names_the_process_and_stays_one_line() {
        let expected = format!("ldmesh[{}] INFO: a?b\n", std::process::id());
        assert_eq!(logged(format_args!("a\nb")), expected.as_bytes());
    }

    #[test]
    fn a_reader_that_is_gone_costs_the_line_and_no_signal() {
        let mut pipe = [0; 2];
        // SAFETY: plain calls on descriptors made here; the test's process ignores SIGPIPE unless told otherwise.
        unsafe {
            assert_eq!(libc::pipe2(pipe.as_mut_ptr(), libc::O_CLOEXEC), 0);
            libc::close(pipe[0]);
            let former = libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let mut line = Line { bytes: [b'x'; LINE], length: 5 };
            line.end();
            line.write(c_long::from(pipe[1]));
            libc::signal(libc::SIGPIPE, former);
            libc::close(pipe[1]);
        }
    }

    #[test]
    fn a_long_line_is_cut() {
        let line = logged(format_args!("{}", "x".repeat(1000)));
        assert_eq!((line.len(), line.last()), (LINE, Some(&b'\n')));
    }
}
