//! What the tests have in common. It knows the product's public faces only: the custom resource, the
//! Redis protocol, the admin interface, `kubectl` and `helm`.

pub(crate) mod away;
pub(crate) mod client;
pub(crate) mod dump;
pub(crate) mod fault;
pub(crate) mod history;
pub(crate) mod http;
pub(crate) mod installation;
pub(crate) mod leadership;
pub(crate) mod record;
pub(crate) mod register;
pub(crate) mod sessions;
pub(crate) mod shell;
pub(crate) mod store;
pub(crate) mod wait;
pub(crate) mod world;
pub(crate) mod writer;

pub(crate) use sessions::{Habit, Sessions};
pub(crate) use store::Store;
pub(crate) use wait::{eventually, secs};
pub(crate) use world::{Gate, World, run};
pub(crate) use writer::{Load, Writer};
