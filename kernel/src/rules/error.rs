//! Why rules could not be set.

use super::ports::PortError;

/// Why rules could not be set.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// The program is not there or not willing.
    #[error("nft: {0}")]
    Nft(String),
    /// Two pods want one port.
    #[error(transparent)]
    Port(#[from] PortError),
}
