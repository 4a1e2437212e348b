//! `ringway top`: a live view of a node in a terminal.
//!
//! ```text
//!   answers of the API ▶ Look ▶ Model: two looks, the time between ▶ rates
//!                                 │
//!   key ▶ App: screen, sort, filter, what is open ◀┘
//!          │
//!          ├─▶ draw: onto a frame of any size
//!          └─▶ plain: text, where there is no terminal
//! ```
//!
//! Who asks the API is the caller's affair. All but `terminal` is pure: time is an argument, and what is shown
//! depends on nothing but looks and keys. No string of an answer reaches a terminal before `text::clean`.

#![forbid(unsafe_code)]

mod app;
mod detail;
mod draw;
mod look;
mod model;
mod plain;
mod rows;
mod summary;
mod table;
mod terminal;
mod text;

pub use app::{App, Explain, Key};
pub use draw::{Palette, draw};
pub use look::Look;
pub use model::{Flow, Model, Pace, Shown, WorkerPace};
pub use plain::plain;
pub use table::{Cell, Column, Kind, Row, Screen};
pub use terminal::{Ask, Live, News, TopError, run};
