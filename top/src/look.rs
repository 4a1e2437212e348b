//! What the API answered at one time.

use ringway_view::{Drops, PathRow, PeerRow, Pod, Status};

/// One answer of each resource that is shown.
#[derive(Clone, Debug)]
pub struct Look {
    /// `GET /v1/status`
    pub status: Status,
    /// `GET /v1/pods`
    pub pods: Vec<Pod>,
    /// `GET /v1/tables/peers`
    pub peers: Vec<PeerRow>,
    /// `GET /v1/drops`
    pub drops: Drops,
    /// `GET /v1/tables/paths`, where it was asked for: they seldom change.
    pub paths: Option<Vec<PathRow>>,
}
