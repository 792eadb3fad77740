//! The spine from end to end: the real programs, a real chain node, real signals, and a real listener for webhooks.

mod canaries;
mod crashes;
mod faults;
mod keys;
mod leaders;
mod many;
mod migration;
mod postgres;
mod reload;
mod scene;
mod stalls;
mod start;
mod temporal;
mod toy;
mod wakes;
