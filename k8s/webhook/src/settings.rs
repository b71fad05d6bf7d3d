//! The operator's settings, as the next admission takes them.

use std::sync::Arc;

use injector::{Settings, parse_settings};
use parking_lot::RwLock;

/// The last good settings.
#[derive(Debug, Default)]
pub(crate) struct Current(RwLock<Arc<Settings>>);

impl Current {
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read())
    }

    /// Takes a settings file as a whole, or not at all.
    pub fn take(&self, file: &[u8]) -> Result<(), String> {
        let text = std::str::from_utf8(file).map_err(|_| "is no UTF-8 text; write YAML in UTF-8".to_owned())?;
        // So it is for a moment where somebody writes it in place, and pods of that moment would get the defaults.
        if text.trim().is_empty() {
            return Err("is empty; write settings, or {} for the defaults".to_owned());
        }
        let mut settings = Settings::default();
        parse_settings(text, &mut settings).map_err(|error| error.to_string())?;
        *self.0.write() = Arc::new(settings);
        Ok(())
    }
}
