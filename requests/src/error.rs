//! How a request is refused.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ringway_cni::api::{
    CODE_FAILED, CODE_FULL, CODE_INVALID, CODE_LATER, CODE_NO_NETNS, CODE_TAKEN, CODE_UNKNOWN,
};
use ringway_control::request_values::ValueError;
use ringway_control::{ControlError, Kind};
use ringway_trace::TraceError;
use serde::{Deserialize, Serialize};

/// An answer that says no: what is wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct ApiError {
    /// HTTP status, 4xx: the caller's; 5xx: ours.
    #[serde(skip)]
    pub status: u16,
    /// What was tried and what was found.
    pub error: String,
    /// What to do.
    pub remedy: String,
    /// Error code for a container runtime, see [`ringway_cni::api::Refusal`]; 0: none of its own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub code: u32,
    /// The pod that is not on this node: the cluster may know where it is.
    #[serde(skip)]
    pub unknown_pod: Option<String>,
}

fn is_zero(code: &u32) -> bool {
    *code == 0
}

impl ApiError {
    /// An error with any status.
    pub fn new(status: u16, error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
            remedy: remedy.into(),
            code: 0,
            unknown_pod: None,
        }
    }

    /// The same with a code for a container runtime.
    pub fn with_code(self, code: u32) -> Self {
        Self { code, ..self }
    }

    /// 400: the request makes no sense.
    pub fn bad_request(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(400, error, remedy).with_code(CODE_INVALID)
    }

    /// 409: it contradicts what is.
    pub fn conflict(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(409, error, remedy).with_code(CODE_TAKEN)
    }

    /// 500: something on this machine failed.
    pub fn internal(error: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(500, error, remedy).with_code(CODE_FAILED)
    }
}

impl From<ValueError> for ApiError {
    fn from(error: ValueError) -> Self {
        Self::bad_request(error.to_string(), error.remedy())
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let (status, code) = match error.kind() {
            Kind::Invalid => (400, CODE_INVALID),
            Kind::Taken => (409, CODE_TAKEN),
            Kind::Unknown => (404, CODE_UNKNOWN),
            Kind::NoNetns => (404, CODE_NO_NETNS),
            Kind::Full => (507, CODE_FULL),
            Kind::Later => (500, CODE_LATER),
            Kind::Failed => (500, CODE_FAILED),
        };
        let unknown_pod = match &error {
            ControlError::NoPoint(point) => point.pod().map(str::to_owned),
            _ => None,
        };
        Self {
            unknown_pod,
            ..Self::new(status, error.to_string(), error.remedy()).with_code(code)
        }
    }
}

impl From<TraceError> for ApiError {
    fn from(error: TraceError) -> Self {
        let unknown_pod = match &error {
            TraceError::Unknown(point) => point.pod().map(str::to_owned),
            _ => None,
        };
        Self {
            unknown_pod,
            ..Self::new(error.status(), error.to_string(), error.remedy())
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}
