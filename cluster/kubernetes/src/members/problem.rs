//! What is wrong with a Node.

/// A line about a Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Of which kind.
    pub kind: ProblemKind,
    /// What, with the Node's name, and the remedy.
    pub text: String,
}

/// What kind of problem.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ProblemKind {
    /// Its encapsulation is one that is not spoken here, or with other parameters.
    Encapsulation,
    /// An older Node has its pod network or address.
    Conflict,
    /// What it says cannot be so.
    Invalid,
    /// Something is not there yet.
    Waiting,
}

impl ProblemKind {
    /// The reason of its Event, if it is worth one.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Encapsulation => Some("EncapsulationMismatch"),
            Self::Conflict => Some("NetworkConflict"),
            Self::Invalid => Some("NodeNotFollowed"),
            Self::Waiting => None,
        }
    }
}
