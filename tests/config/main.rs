//! Configuration files against real kernels: which of them start, and what a check says.

#[cfg(test)]
mod check;
#[cfg(test)]
mod start;
