//! One daemon as its operator sees it: statistics mode, outputs, logs.

#[cfg(test)]
mod place;
#[cfg(test)]
mod statistics;
