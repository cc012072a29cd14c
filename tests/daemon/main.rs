//! One daemon as its operator sees it: statistics mode, outputs, logs.

#[cfg(test)]
mod filters;
#[cfg(test)]
mod late;
#[cfg(test)]
mod limits;
mod logs;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod place;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod schema;
#[cfg(test)]
mod settings;
#[cfg(test)]
mod statistics;
#[cfg(test)]
mod unit;
#[cfg(test)]
mod zones;
