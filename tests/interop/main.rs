//! Interoperation with the original, in both roles, over every kind of link: flows of every kind
//! that the kernel can hold go from one node's kernel to the other's.

#[cfg(test)]
#[macro_use]
mod cases;

#[cfg(test)]
mod alarm;
#[cfg(test)]
mod bypass;
#[cfg(test)]
mod commands;
#[cfg(test)]
mod expectations;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod mixed;
#[cfg(test)]
mod polling;
#[cfg(test)]
mod replication;
#[cfg(test)]
mod restarts;
