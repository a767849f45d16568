//! What goes over the websocket: `ClientFrame`, `ServerFrame`, `ModelClass`, made from `schemas/frames.schema.json`.

include!(concat!(env!("OUT_DIR"), "/frames.rs"));
