//! Writing the state, and what when it cannot be written.
//!
//! What is served goes on: the file is only read at a start. What is not on disk would be lost with the agent,
//! so an ADD is refused until it can be written. It is tried again once a second; a directory that somebody
//! took away is made again.

use ringway_cni::api::Done;

use super::error::UNSAVED;
use super::{Control, ControlError};
use crate::state::StateError;

impl Control {
    /// Writes the state. A failure is logged, and the state written later.
    pub(super) fn save(&mut self) -> Result<(), StateError> {
        let outcome = self.state_dir.save(&self.state);
        match (&outcome, &self.unsaved) {
            (Ok(()), Some(_)) => tracing::info!("the state is written again"),
            (Err(e), None) => warn_unsaved(e),
            _ => {}
        }
        self.unsaved = outcome.as_ref().err().map(ToString::to_string);
        outcome
    }

    /// Once a second: a directory or a file that is gone is made again, and what could not be written is
    /// tried again.
    pub(super) fn keep_state(&mut self) {
        match self.state_dir.make_again() {
            Ok(false) => {}
            Ok(true) => tracing::warn!(
                directory = %self.state_dir.path().display(),
                "somebody removed the state directory; it was recreated"
            ),
            Err(e) => {
                if self.unsaved.is_none() {
                    warn_unsaved(&e);
                }
                self.unsaved = Some(e.to_string());
                return;
            }
        }
        if self.unsaved.is_some() || !self.state_dir.is_saved() {
            // Logged, and tried again.
            let _ = self.save();
        }
    }

    /// Whether an ADD could be served.
    pub(super) fn cni_status(&self) -> Result<Done, ControlError> {
        if self.this_node().cidrs.is_empty() {
            return Err(self.no_network());
        }
        self.check_node()?;
        match &self.unsaved {
            None => Ok(Done::default()),
            Some(e) => Err(ControlError::Unsaved {
                what: format!("no pod can be added: {e}"),
            }),
        }
    }
}

/// Says that the state is not written, and what that means.
pub(super) fn warn_unsaved(e: &StateError) {
    tracing::warn!(
        "the state cannot be written, attached pods go on and new ones are refused: {e}; {UNSAVED}"
    );
}
