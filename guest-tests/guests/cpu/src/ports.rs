//! Port space: where nobody answers all bits are 1; the UART and PCI configuration answer.

use pleat_guest::{check, cpu, hypercall};

/// Ports without a device on a PC.
const NOBODY: [u16; 5] = [0x100, 0x2e9, 0x678, 0xb00c, 0xfff8];
const UART_SCRATCH: u16 = 0x3ff;
const CONFIG_ADDRESS: u16 = 0xcf8;
const CONFIG_DATA: u16 = 0xcfc;
const CONFIG_ENABLE: u32 = 1 << 31;

pub(crate) fn check_all() {
    pci();
    if hypercall::is_on_pleat() {
        for port in NOBODY {
            absent(port);
        }
        for value in [0x5a, 0xa5, 0] {
            cpu::port_out_u8(UART_SCRATCH, value);
            let found = cpu::port_in_u8(UART_SCRATCH);
            check!(
                found == value,
                "the UART's scratch register was given {value:#x} and holds {found:#x}"
            );
        }
    }
}

fn absent(port: u16) {
    cpu::port_out_u8(port, 0x12);
    cpu::port_out_u16(port, 0x1234);
    cpu::port_out_u32(port, 0x1234_5678);
    let byte = cpu::port_in_u8(port);
    check!(byte == u8::MAX, "port {port:#x} reads {byte:#x}");
    let word = cpu::port_in_u16(port);
    check!(word == u16::MAX, "port {port:#x} reads {word:#x} as a word");
    let dword = cpu::port_in_u32(port);
    check!(
        dword == u32::MAX,
        "port {port:#x} reads {dword:#x} as a doubleword"
    );
}

fn read_config(device: u32, register: u32) -> u32 {
    cpu::port_out_u32(CONFIG_ADDRESS, CONFIG_ENABLE | device << 11 | register);
    cpu::port_in_u32(CONFIG_DATA)
}

fn pci() {
    let address = CONFIG_ENABLE | 0x1234;
    cpu::port_out_u32(CONFIG_ADDRESS, address);
    let latch = cpu::port_in_u32(CONFIG_ADDRESS);
    check!(
        latch == address,
        "0xcf8 was given {address:#x} and holds {latch:#x}"
    );
    let bridge = read_config(0, 0);
    check!(
        bridge != u32::MAX && bridge != 0,
        "there is no host bridge: {bridge:#x}"
    );
    let class = read_config(0, 8) >> 16;
    check!(
        class == 0x0600,
        "device 0 has class {class:#06x}, a host bridge has 0x0600"
    );
    let nobody = read_config(31, 0);
    check!(nobody == u32::MAX, "device 31 is not there and reads {nobody:#x}");
    cpu::port_out_u32(CONFIG_ADDRESS, 0);
}
