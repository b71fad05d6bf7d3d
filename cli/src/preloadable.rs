//! Whether the dynamic loader will put a library into a program, and why not.
//!
//! The loader ignores `LD_PRELOAD` without a word in programs that gain privileges, static programs
//! have no loader, and a library whose needs are missing kills the program (see `Obstacle`).

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use object::elf::FileHeader64;
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Architecture, Endianness, FileKind, Object, ObjectSection, ReadCache};

/// The program's C library, as its loader tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Libc {
    /// Any loader but musl's.
    Glibc,
    /// musl's loader.
    Musl,
}

/// Why a program cannot be preloaded.
#[derive(Debug, thiserror::Error)]
pub enum Obstacle {
    /// No such file, or none in PATH.
    #[error("not found{}", if *.in_path { " in PATH" } else { "" })]
    NotFound {
        /// Whether PATH was searched.
        in_path: bool,
    },
    /// The file may not be executed.
    #[error("not executable: chmod +x it")]
    NotExecutable,
    /// The file cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// Neither ELF nor a script, or a damaged ELF file.
    #[error("no ELF file and no script with #!: {0}")]
    Unknown(String),
    /// No PT_INTERP.
    #[error("statically linked, so nothing can be preloaded: link it dynamically{}", if *.go {
        " (Go: CGO_ENABLED=1)"
    } else {
        ""
    })]
    Static {
        /// Whether Go built it.
        go: bool,
    },
    /// Another machine or word size.
    #[error("built for {found}, this ldmesh for {own}: install the ldmesh of that architecture")]
    OtherArchitecture {
        /// What the program is for.
        found: String,
        /// What this binary is for.
        own: &'static str,
    },
    /// Its loader is missing.
    #[error("its loader {} is missing: install the C library that it was built for", .0.display())]
    NoLoader(PathBuf),
    /// The set-user-ID or set-group-ID bit.
    #[error("{0}, so the loader ignores LD_PRELOAD: run a copy without the bit")]
    SetId(&'static str),
    /// Capabilities on the file.
    #[error("has file capabilities, so the loader ignores LD_PRELOAD: give them to the container")]
    FileCapabilities,
    /// A musl program, and a library that needs glibc: it would not start.
    #[error("a musl program, and this libldmesh.so needs glibc: install the portable build")]
    NeedsGlibc,
    /// A script whose interpreter has an obstacle.
    #[error("a script for {}, which is {obstacle}", .interpreter.display())]
    Interpreter {
        /// The interpreter, as the script names it.
        interpreter: PathBuf,
        /// What is the matter with it.
        obstacle: Box<Obstacle>,
    },
}

impl Obstacle {
    /// Whether the program would fail to start with the library preloaded, where it starts without.
    pub fn preload_is_fatal(&self) -> bool {
        match self {
            Self::NeedsGlibc => true,
            Self::Interpreter { obstacle, .. } => obstacle.preload_is_fatal(),
            _ => false,
        }
    }
}

/// Interpreters of interpreters; the kernel follows five.
const MAX_DEPTH: usize = 5;

/// Looks at the program that a shell would start for `name`. `library` is the file to preload.
pub fn inspect(name: &OsStr, library: Option<&Path>) -> Result<Libc, Obstacle> {
    inspect_at_depth(name, library, 0)
}

fn inspect_at_depth(name: &OsStr, library: Option<&Path>, depth: usize) -> Result<Libc, Obstacle> {
    let path = locate(name, std::env::var_os("PATH"))?;
    let mut file = File::open(&path)?;
    let metadata = file.metadata()?;
    let mut magic = [0; 2];
    let length = read_up_to(&mut file, &mut magic)?;
    if magic.get(..length) == Some(b"#!") {
        if depth >= MAX_DEPTH {
            return Err(Obstacle::Unknown("too many interpreters".to_owned()));
        }
        let mut line = Vec::new();
        BufReader::new(file.take(4096)).read_until(b'\n', &mut line)?;
        return interpreter(&line, library, depth);
    }
    let libc = elf(file)?;
    privileges(&path, &metadata)?;
    match library {
        Some(library) if libc == Libc::Musl && needs_glibc(library)? => Err(Obstacle::NeedsGlibc),
        _ => Ok(libc),
    }
}

/// The file that execvp(3) would take.
fn locate(name: &OsStr, search: Option<OsString>) -> Result<PathBuf, Obstacle> {
    let in_path = !name.as_bytes().contains(&b'/');
    let candidates: Vec<PathBuf> = if in_path {
        let search = search.unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
        std::env::split_paths(&search).map(|folder| folder.join(name)).collect()
    } else {
        vec![PathBuf::from(name)]
    };
    let mut obstacle = Obstacle::NotFound { in_path };
    for path in candidates {
        match path.metadata() {
            Ok(data) if !data.is_file() => {}
            Ok(data) if data.permissions().mode() & 0o111 == 0 => {
                obstacle = Obstacle::NotExecutable;
            }
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                obstacle = Obstacle::Unreadable(error);
            }
            Err(_) => {}
        }
    }
    Err(obstacle)
}

/// Follows a `#!` line (without the two characters); the program behind `env` too.
fn interpreter(line: &[u8], library: Option<&Path>, depth: usize) -> Result<Libc, Obstacle> {
    let mut words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let Some(first) = words.next() else {
        return Err(Obstacle::Unknown("an empty #! line".to_owned()));
    };
    let follow = |name: &[u8]| {
        let name = OsStr::from_bytes(name);
        inspect_at_depth(name, library, depth + 1).map_err(|obstacle| Obstacle::Interpreter {
            interpreter: PathBuf::from(name),
            obstacle: Box::new(obstacle),
        })
    };
    let libc = follow(first)?;
    let is_env = Path::new(OsStr::from_bytes(first)).file_name() == Some(OsStr::new("env"));
    match words.find(|word| !word.starts_with(b"-") && !word.contains(&b'=')) {
        Some(program) if is_env => follow(program),
        _ => Ok(libc),
    }
}

fn elf(file: File) -> Result<Libc, Obstacle> {
    let cache = ReadCache::new(file);
    let damaged = |error: object::Error| Obstacle::Unknown(error.to_string());
    let kind = FileKind::parse(&cache).map_err(damaged)?;
    let own = std::env::consts::ARCH;
    if !matches!(kind, FileKind::Elf32 | FileKind::Elf64) {
        return Err(Obstacle::Unknown(format!("{kind:?}")));
    }
    let parsed = object::File::parse(&cache).map_err(damaged)?;
    if kind == FileKind::Elf32 || Some(parsed.architecture()) != own_architecture() {
        let found = format!("{:?}", parsed.architecture()).to_lowercase();
        return Err(Obstacle::OtherArchitecture { found, own });
    }
    let header = FileHeader64::<Endianness>::parse(&cache).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let mut loader = None;
    for segment in header.program_headers(endian, &cache).map_err(damaged)? {
        loader = loader.or(segment.interpreter(endian, &cache).map_err(damaged)?);
    }
    let Some(loader) = loader else {
        let go = parsed.section_by_name(".go.buildinfo").is_some();
        return Err(Obstacle::Static { go });
    };
    let loader = Path::new(OsStr::from_bytes(loader));
    if !loader.exists() {
        return Err(Obstacle::NoLoader(loader.to_path_buf()));
    }
    let is_musl = loader.as_os_str().as_bytes().windows(7).any(|part| part == b"ld-musl");
    Ok(if is_musl { Libc::Musl } else { Libc::Glibc })
}

fn own_architecture() -> Option<Architecture> {
    match std::env::consts::ARCH {
        "x86_64" => Some(Architecture::X86_64),
        "aarch64" => Some(Architecture::Aarch64),
        _ => None,
    }
}

fn privileges(path: &Path, metadata: &Metadata) -> Result<(), Obstacle> {
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2000;
    if metadata.mode() & SET_UID != 0 {
        return Err(Obstacle::SetId("set-user-ID"));
    }
    if metadata.mode() & SET_GID != 0 {
        return Err(Obstacle::SetId("set-group-ID"));
    }
    let mut value = [0_u8; 64];
    match rustix::fs::getxattr(path, "security.capability", &mut value[..]) {
        Ok(size) if size > 0 => Err(Obstacle::FileCapabilities),
        // No such attribute, or a file system without any.
        _ => Ok(()),
    }
}

/// Whether the library names glibc's loader among its needs, which musl cannot satisfy.
fn needs_glibc(library: &Path) -> Result<bool, Obstacle> {
    let damaged = |error: object::Error| Obstacle::Unknown(error.to_string());
    let cache = ReadCache::new(File::open(library)?);
    let parsed = object::File::parse(&cache).map_err(damaged)?;
    // The names of needed libraries are in the dynamic strings.
    let names = parsed.section_by_name(".dynstr").map(|section| section.data()).transpose();
    let names = names.map_err(damaged)?.unwrap_or_default();
    Ok(names.windows(8).any(|part| part == b"ld-linux"))
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read(rest)? {
            0 => break,
            count => length += count,
        }
    }
    Ok(length)
}
