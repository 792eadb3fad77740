//! Plugins in trouble, through a whole host: each is an incident of its own, and the others go on.

mod bed;
mod breakers;
mod collectors;
mod hostile_policies;
mod own_incidents;
mod reload;
