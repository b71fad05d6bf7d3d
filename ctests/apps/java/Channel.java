import java.net.InetSocketAddress;
import java.net.UnknownHostException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;

/** Channel HOST PORT COUNT: dials an echo server without blocking; prints its name, the echo and the peer. */
class Channel {
    public static void main(String[] arguments) throws Exception {
        for (int n = 0; n < Integer.parseInt(arguments[2]); n++) {
            var address = new InetSocketAddress(arguments[0], Integer.parseInt(arguments[1]));
            if (address.isUnresolved()) {
                throw new UnknownHostException(arguments[0]);
            }
            try (var channel = SocketChannel.open(); var selector = Selector.open()) {
                channel.configureBlocking(false);
                var key = channel.register(selector, SelectionKey.OP_CONNECT);
                if (!channel.connect(address)) {
                    selector.select();
                    channel.finishConnect();
                }
                key.interestOps(SelectionKey.OP_READ);
                var name = line(channel, selector);
                channel.write(ByteBuffer.wrap("ping\n".getBytes()));
                var echo = line(channel, selector);
                var peer = (InetSocketAddress) channel.getRemoteAddress();
                System.out.println(name + " " + echo + " at " + peer.getAddress().getHostAddress() + ":" + peer.getPort());
            }
        }
    }

    private static String line(SocketChannel channel, Selector selector) throws Exception {
        var text = new StringBuilder();
        while (text.indexOf("\n") < 0) {
            selector.select();
            var bytes = ByteBuffer.allocate(100);
            if (channel.read(bytes) < 0) {
                break;
            }
            text.append(new String(bytes.array(), 0, bytes.position()));
        }
        return text.toString().trim();
    }
}
