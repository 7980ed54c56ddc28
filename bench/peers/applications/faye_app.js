// Event streams with faye, and publishing by HTTP. Usage: node faye_app.js PORT KEEP_ALIVE

const http = require('http');
const faye = require('faye');

const [port, keepAlive] = process.argv.slice(2).map(Number);
const bayeux = new faye.NodeAdapter({ mount: '/bayeux', timeout: 600, ping: keepAlive });
const server = http.createServer();
bayeux.attach(server);
server.keepAliveTimeout = 0;
server.listen({ port, host: '127.0.0.1', backlog: 4096 });
