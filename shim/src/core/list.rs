//! The answer's list: what the real calls gave, as one list that the program's own freeaddrinfo frees.
//!
//! ```text
//! glibc   frees node by node, and each node's canonical name: the lists are joined
//! musl    counts the nodes of an allocation that are given back: the nodes are copied into one that is laid out as its
//! ```
//! So freeaddrinfo needs no hook, and programs may take lists apart as with libc's own.

use std::ffi::{c_char, c_int};

use libc::{addrinfo, sockaddr_in6};

/// glibc's name of its version; no other libc knows the question.
const CS_GNU_LIBC_VERSION: c_int = 2;
/// Longest name and a nul.
const NAME: usize = 256;

/// musl's `struct aibuf`: since 1.1.20 freeaddrinfo finds the first node of an allocation by a node's slot, and frees
/// it when no reference is left. Before, it freed the address that it was given, which is the first node's, too.
#[repr(C)]
struct Node {
    node: addrinfo,
    address: sockaddr_in6,
    lock: c_int,
    slot: i16,
    references: i16,
}

/// A list under way.
pub struct List {
    /// The first node.
    pub head: *mut addrinfo,
    /// Nodes in an allocation of ours, and its room; no room: `head` is the real call's.
    used: usize,
    room: usize,
}

/// There is no memory for the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoMemory;

impl List {
    /// Nothing yet.
    pub const EMPTY: Self = Self { head: std::ptr::null_mut(), used: 0, room: 0 };

    /// Adds one of `parts` lists. `name` is the canonical name that the list shall have, with its nul.
    ///
    /// # Errors
    /// The part is freed.
    ///
    /// # Safety
    /// `part` is the real getaddrinfo's, and nobody else's.
    pub unsafe fn append(&mut self, part: *mut addrinfo, parts: usize, name: Option<&[u8]>) -> Result<(), NoMemory> {
        if self.head.is_null() && parts == 1 && name.is_none() {
            self.head = part;
            return Ok(());
        }
        // SAFETY: as the caller says.
        unsafe {
            if self.room == 0 && (!self.head.is_null() || is_freed_by_nodes() || !is_counted(part)) {
                self.join(part, name);
                return Ok(());
            }
            let copied = self.copy(part, parts, name);
            libc::freeaddrinfo(part);
            copied
        }
    }

    /// glibc's way, and that of a libc which nobody knows: there the list lasts as long as the program.
    unsafe fn join(&mut self, part: *mut addrinfo, name: Option<&[u8]>) {
        // SAFETY: nodes of lists that the real call made.
        unsafe {
            if !self.head.is_null() {
                if let Some(last) = nodes(self.head).last() {
                    (*last).ai_next = part;
                }
                return;
            }
            self.head = part;
            let name = name.filter(|_| is_freed_by_nodes());
            if let (Some(name), Some(first)) = (name, part.as_mut()) {
                let copy = libc::strdup(name.as_ptr().cast());
                // Without memory the digits stay.
                if !copy.is_null() {
                    libc::free(first.ai_canonname.cast());
                    first.ai_canonname = copy;
                }
            }
        }
    }

    /// musl's way. The address has no say in how many nodes there are, so each part has as many as the first.
    unsafe fn copy(&mut self, part: *mut addrinfo, parts: usize, name: Option<&[u8]>) -> Result<(), NoMemory> {
        // SAFETY: the part's nodes are readable; the nodes written are within the allocation, whose end has a name.
        unsafe {
            if self.room == 0 {
                let room = nodes(part).count() * parts;
                self.head = libc::calloc(1, room * size_of::<Node>() + NAME).cast();
                if self.head.is_null() {
                    return Err(NoMemory);
                }
                self.room = room;
            }
            let block: *mut Node = self.head.cast();
            let text: *mut c_char = block.add(self.room).cast();
            if let Some(name) = name.filter(|name| name.len() <= NAME) {
                std::ptr::copy_nonoverlapping(name.as_ptr().cast(), text, name.len());
            }
            for from in nodes(part).take(self.room - self.used) {
                let to = block.add(self.used);
                let address = &raw mut (*to).address;
                let length = ((*from).ai_addrlen as usize).min(size_of::<sockaddr_in6>());
                std::ptr::copy_nonoverlapping((*from).ai_addr.cast::<u8>(), address.cast(), length);
                (*to).node = *from;
                (*to).node.ai_addr = address.cast();
                (*to).node.ai_next = std::ptr::null_mut();
                (*to).node.ai_canonname = if *text == 0 { std::ptr::null_mut() } else { text };
                (*to).slot = self.used as i16;
                if self.used > 0 {
                    (*to.sub(1)).node.ai_next = to.cast();
                }
                self.used += 1;
                (*block).references = self.used as i16;
            }
            Ok(())
        }
    }

    /// Frees what there is.
    ///
    /// # Safety
    /// The list was not handed out.
    pub unsafe fn free(&mut self) {
        if !self.head.is_null() {
            // SAFETY: of the real call's making, or laid out like it.
            unsafe { libc::freeaddrinfo(self.head) };
        }
        *self = Self::EMPTY;
    }
}

/// True for glibc.
fn is_freed_by_nodes() -> bool {
    // SAFETY: asks for a length.
    unsafe { libc::confstr(CS_GNU_LIBC_VERSION, std::ptr::null_mut(), 0) != 0 }
}

/// Whether a list is laid out as musl's.
unsafe fn is_counted(list: *mut addrinfo) -> bool {
    let first: *mut Node = list.cast();
    // SAFETY: a node whose address is behind it in the same allocation has musl's counts behind that.
    unsafe {
        let is_at_its_slot = |(slot, node): (usize, *mut addrinfo)| {
            let place = first.wrapping_add(slot);
            node == place.cast()
                && (*node).ai_addr == (&raw mut (*place).address).cast()
                && (*place).slot == slot as i16
        };
        nodes(list).enumerate().all(is_at_its_slot) && (*first).references as usize == nodes(list).count()
    }
}

unsafe fn nodes(list: *mut addrinfo) -> impl Iterator<Item = *mut addrinfo> {
    let unless_end = |node: *mut addrinfo| (!node.is_null()).then_some(node);
    // SAFETY: nodes of a list that the real call made.
    std::iter::successors(unless_end(list), move |node| unless_end(unsafe { (**node).ai_next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What musl's getaddrinfo gives for one address and `count` services.
    fn of_musl(count: i16) -> Box<[Node]> {
        // SAFETY: all zeros is a valid node.
        let mut block: Box<[Node]> = (0..count).map(|_| unsafe { std::mem::zeroed() }).collect();
        let first = block.as_mut_ptr();
        for (slot, node) in (0_i16..).zip(&mut block) {
            node.slot = slot;
            node.node.ai_family = libc::AF_INET;
            node.node.ai_socktype = i32::from(slot);
            node.node.ai_addrlen = 16;
            node.address.sin6_port = 80;
            node.node.ai_addr = (&raw mut node.address).cast();
            if slot + 1 < count {
                node.node.ai_next = first.wrapping_add(slot as usize + 1).cast();
            }
        }
        block[0].references = count;
        block
    }

    #[test]
    fn musls_lists_become_one_allocation_that_counts_its_nodes() {
        let (mut one, mut other) = (of_musl(3), of_musl(3));
        let mut list = List::EMPTY;
        // SAFETY: lists in memory of the test; the block is freed as what it is.
        unsafe {
            assert!(is_counted(one.as_mut_ptr().cast()));
            assert_eq!(list.copy(one.as_mut_ptr().cast(), 2, Some(b"db.shop\0")), Ok(()));
            assert_eq!(list.copy(other.as_mut_ptr().cast(), 2, Some(b"db.shop\0")), Ok(()));
            drop((one, other));
            assert!(is_counted(list.head));
            let types: Vec<_> = nodes(list.head).map(|node| (*node).ai_socktype).collect();
            assert_eq!(types, [0, 1, 2, 0, 1, 2]);
            for node in nodes(list.head) {
                assert_eq!((*(*node).ai_addr.cast::<sockaddr_in6>()).sin6_port, 80);
                assert_eq!(std::ffi::CStr::from_ptr((*node).ai_canonname), c"db.shop");
            }
            libc::free(list.head.cast());
        }
    }

    #[test]
    fn a_list_of_another_layout_is_not_taken_for_musls() {
        // SAFETY: all zeros are valid hints.
        let mut hints: addrinfo = unsafe { std::mem::zeroed() };
        hints.ai_flags = libc::AI_NUMERICHOST;
        let mut list = std::ptr::null_mut();
        // SAFETY: digits; the list is freed.
        unsafe {
            assert_eq!(libc::getaddrinfo(c"10.0.0.1".as_ptr(), std::ptr::null(), &hints, &raw mut list), 0);
            assert!(is_freed_by_nodes() && !is_counted(list));
            libc::freeaddrinfo(list);
        }
        let mut node = of_musl(1);
        node[0].references = 2;
        // SAFETY: memory of the test.
        assert!(!unsafe { is_counted(node.as_mut_ptr().cast()) });
    }
}
