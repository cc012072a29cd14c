//! What a commit, or an injection, leaves of a flow: every attribute of every kind against a table of
//! what can be restored, and what becomes of flows that can not be restored whole.

#[cfg(test)]
mod attributes;
#[cfg(test)]
mod in_place;
#[cfg(test)]
mod kinds;
#[cfg(test)]
mod lacking;
#[cfg(test)]
mod restored;
#[cfg(test)]
mod table;
#[cfg(test)]
mod teller;
