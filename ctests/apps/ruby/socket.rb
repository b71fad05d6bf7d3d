# socket.rb HOST PORT COUNT: dials an echo server; prints its name, the echo and the peer.
require 'socket'

host, port, count = ARGV
count.to_i.times do
  TCPSocket.open(host, port.to_i) do |socket|
    name = socket.gets.chomp
    socket.puts 'ping'
    puts "#{name} #{socket.gets.chomp} at #{socket.remote_address.inspect_sockaddr}"
  end
end
