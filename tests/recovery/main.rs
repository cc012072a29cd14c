//! What a pair survives: loss, a killed receiver, flows that the kernel is silent about, floods,
//! and bytes that mean harm.

#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod commit;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod flood;
#[cfg(test)]
mod ftp;
#[cfg(test)]
mod loss;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod silence;
#[cfg(test)]
mod sip;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod stalled;

/// Sizes of `make test` are for two cores and 25 minutes; this asks for those of the acceptance.
#[cfg(test)]
fn full() -> bool {
    std::env::var_os("SHARDTRACK_FULL").is_some()
}
