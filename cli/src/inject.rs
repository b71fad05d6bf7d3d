//! `ldmesh inject -f FILE`

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use clap::{Arg, ArgMatches, Command, FromArgMatches};
use injector::stream::inject_stream;
use injector::{SETTINGS, Scope, Settings, parse_settings};

/// Puts the pods of Kubernetes YAML into the mesh, and writes the result to standard output. Comments and all other
/// objects stay as they are.
#[derive(Debug, clap::Args)]
#[command(after_help = "An annotation ldmesh.io/NAME of a pod wins over a flag --NAME, and ldmesh.io/NAME.CONTAINER \
                        over both; a flag wins over the settings file. docs/kubernetes.md has them all.")]
pub struct Args {
    /// A YAML file, or - for standard input; several are written one after the other.
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    file: Vec<PathBuf>,
    /// The namespace of objects that name none.
    #[arg(short, long, default_value = "default")]
    namespace: String,
    /// A YAML file of settings, NAME: VALUE each.
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// One flag a setting of the injector's table.
#[derive(Debug)]
struct Flags(Vec<(&'static str, String)>);

impl clap::Args for Flags {
    fn augment_args(command: Command) -> Command {
        let settings = SETTINGS.iter().filter(|setting| setting.scope != Scope::Container);
        settings.fold(command, |command, setting| {
            let default = match setting.default {
                "" => String::new(),
                default => format!(" [default: {}]", default.replace('`', "")),
            };
            let help = format!("{}: {}{default}", setting.meaning, setting.values).replace('`', "");
            let flag = Arg::new(setting.name).long(setting.name).value_name("VALUE").help(help);
            command.arg(flag.help_heading("Settings"))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |name: &'static str| matches.try_get_one::<String>(name).ok().flatten().cloned();
        Ok(Flags(SETTINGS.iter().filter_map(|setting| Some((setting.name, value(setting.name)?))).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Writes all or nothing.
pub fn run(args: &Args) -> Result<ExitCode> {
    let settings = settings(args)?;
    let mut out = String::new();
    let mut notes = Vec::new();
    for file in &args.file {
        let name = name_of(file);
        let text = read(file, &name)?;
        let injected = inject_stream(&text, &args.namespace, &settings).map_err(|error| anyhow!("{name}: {error}"))?;
        notes.extend(injected.notes.into_iter().map(|note| (name.clone(), note)));
        append(&mut out, &injected.text);
    }
    // After an error, the error alone is told.
    for (name, note) in notes {
        eprintln!("ldmesh: {name}: document {}: {}", note.document, note.text);
    }
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(out.as_bytes()).and_then(|()| stdout.flush()).context("cannot write to standard output")?;
    Ok(ExitCode::SUCCESS)
}

/// A file's first document needs a separator from the last one of the file before.
fn append(out: &mut String, text: &str) {
    let starts_anew = out.is_empty() || text.starts_with("---") || out.ends_with("---\n") || out.ends_with("...\n");
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    if !starts_anew {
        out.push_str("---\n");
    }
    out.push_str(text);
}

fn settings(args: &Args) -> Result<Settings> {
    let mut settings = Settings::default();
    if let Some(file) = &args.settings {
        let name = name_of(file);
        let text = read(file, &name)?;
        parse_settings(&text, &mut settings).map_err(|error| anyhow!("{name}: {error}"))?;
    }
    for (name, value) in &args.flags.0 {
        settings.set(name, value).map_err(|error| anyhow!("--{name}: {value:?} is not taken; {error}"))?;
    }
    Ok(settings)
}

fn name_of(file: &Path) -> String {
    if file == Path::new("-") { "standard input".into() } else { file.display().to_string() }
}

fn read(file: &Path, name: &str) -> Result<String> {
    let bytes = if file == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().lock().read_to_end(&mut bytes).map(|_| bytes)
    } else {
        fs::read(file)
    };
    let bytes = bytes.map_err(|error| anyhow!("{name}: {error}; name a file that can be read"))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(_) => bail!("{name}: is no UTF-8 text; write YAML in UTF-8"),
    }
}
