//! stub
pub mod limits;
