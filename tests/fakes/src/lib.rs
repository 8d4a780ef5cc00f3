//! Stand-ins at process boundaries: each is an executable or a server that the real program talks to.

pub mod model_api;
