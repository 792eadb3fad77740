//! The progress and the output of a step while it runs.

use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of output to keep.
const OUTPUT_MAX: usize = 4 * 1024;

/// Collects the progress and the output of a step.
#[derive(Clone)]
pub(crate) struct Report {
    progress: Arc<dyn Fn(Option<f64>, String) + Send + Sync>,
    output: Arc<Mutex<String>>,
}

impl Report {
    /// A report that calls `progress` with the finished fraction and a message.
    pub(crate) fn new(progress: impl Fn(Option<f64>, String) + Send + Sync + 'static) -> Self {
        Self {
            progress: Arc::new(progress),
            output: Arc::default(),
        }
    }

    /// Reports progress to the host.
    pub(crate) fn progress(&self, fraction: Option<f64>, message: impl Into<String>) {
        (self.progress)(fraction, message.into());
    }

    /// Appends to the output and keeps its end.
    pub(crate) fn print(&self, text: &str) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        output.push_str(text);
        let surplus = output.len().saturating_sub(OUTPUT_MAX);
        if let Some(cut) = (surplus..output.len()).find(|at| output.is_char_boundary(*at)) {
            output.drain(..cut);
        }
    }

    /// The end of the output.
    pub(crate) fn output(&self) -> String {
        self.output
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
